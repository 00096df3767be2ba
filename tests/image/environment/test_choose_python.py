import pytest

from sanderling.errors import Invalid
from sanderling.image.environment.choose_python import choose_python
from sanderling.image.environment.conda_file import EnvironmentInvalid, parse_environment
from sanderling.image.environment.environment import Environment
from sanderling.image.interpreter import DEBIAN_12, Interpreter

DEBIAN_13 = Interpreter("3.13", "usr", "usr/lib/python3/dist-packages", (2, 41))
OWN = Interpreter("3.9", "usr/local", "usr/local/lib/python3.9/site-packages", (2, 31))
BOTH = (DEBIAN_12, DEBIAN_13)


def environment(python: str) -> Environment:
    return parse_environment(f"name: x\ndependencies:\n  - '{python}'\n".encode(), "myenv.yml")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("six", DEBIAN_12),
        ("python", DEBIAN_12),
        ("python=3", DEBIAN_12),
        ("python=3.11", DEBIAN_12),
        ("python=3.11.4", DEBIAN_12),
        ("python>=3.8", DEBIAN_12),
        ("python=3.13", DEBIAN_13),
        ("python>=3.12", DEBIAN_13),
        ("python 3.8|3.13", DEBIAN_13),
    ],
)
def test_the_first_python_that_the_file_allows_is_chosen(wanted: str, chosen: Interpreter) -> None:
    assert choose_python(environment(wanted), BOTH) is chosen


def test_an_environment_that_names_a_version_alone_is_followed() -> None:
    assert choose_python(Environment(python="3.13"), BOTH) is DEBIAN_13
    with pytest.raises(Invalid, match=r"'python=3\.9': Debian 12 has 3\.11"):
        choose_python(Environment(python="3.9"), BOTH)


@pytest.mark.parametrize("wanted", ["python=3.8", "python=3.6.2", "python<3.11", "python=3.1", "python=2.7"])
def test_another_python_is_refused_and_the_error_says_which_are_possible(wanted: str) -> None:
    with pytest.raises(EnvironmentInvalid) as caught:
        choose_python(environment(wanted), BOTH)
    assert caught.value.message == (
        f"myenv.yml, line 3: '{wanted}': Debian 12 has 3.11, Debian 13 has 3.13; write one of these, or leave python "
        "out; conda packages or your own base image have others"
    )


def test_the_python_of_ones_own_base_counts_alone() -> None:
    assert choose_python(environment("python=3.9"), [OWN]) is OWN
    with pytest.raises(EnvironmentInvalid, match=r"the base image has 3\.9"):
        choose_python(environment("python=3.11"), [OWN])
