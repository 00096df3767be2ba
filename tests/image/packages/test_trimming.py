from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.packages.trimming import is_left_out, project_of, trim_record
from sanderling.image.packages.wheels import open_wheel

FILES = {
    "{0}/__init__.py": b"",
    "{0}/tests/__init__.py": b"",
    "{0}/linalg/tests/data/a.npz": b"",
    "{0}/latests/b.py": b"",
    "{0}/tests.py": b"",
    "tests/top.py": b"",
}


def installed(wheel: Path) -> set[str]:
    with open_wheel(wheel, wheel.name, DEBIAN_12) as entries:
        places = {entry.path.removeprefix(f"{DEBIAN_12.site}/") for entry in entries}
    return {place for place in places if ".dist-info/" not in place}


def test_tests_of_packages_that_are_known_are_left_out(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("scikit_learn", "1.9", {name.format("sklearn"): text for name, text in FILES.items()})
    assert installed(wheel) == {"sklearn/__init__.py", "sklearn/latests/b.py", "sklearn/tests.py", "tests/top.py"}


def test_every_other_package_is_as_its_wheel_has_it(make_wheel: Callable[..., Path]) -> None:
    wheel = make_wheel("mine", "1.0", {name.format("mine"): text for name, text in FILES.items()})
    assert installed(wheel) == {name.format("mine") for name in FILES}


def test_the_record_names_what_is_there() -> None:
    record = b'numpy/__init__.py,sha256=x,1\nnumpy/tests/t.py,sha256=y,2\n"numpy/tests/a,b.py",sha256=z,3\n'
    assert trim_record("numpy", record) == b"numpy/__init__.py,sha256=x,1\n"
    assert trim_record("mine", record) == record


@pytest.mark.parametrize("name", ["scikit_learn-1.9-py3-none-any.whl", "Scikit.Learn-1.9-py3-none-any.whl"])
def test_a_project_is_known_by_its_normalised_name(name: str) -> None:
    assert project_of(name) == "scikit-learn"


def test_the_folder_must_be_called_tests_and_be_inside_of_a_package() -> None:
    assert is_left_out("numpy", "numpy/lib/tests/x.py")
    assert not is_left_out("numpy", "tests/x.py")
    assert not is_left_out("numpy", "numpy/testing/tests_util.py")
