import pytest

from sanderling.image.environment.conda_file import EnvironmentInvalid, parse_environment

DOCUMENTED = b"""
# Conda environment specification, as azureml writes it
name: project_environment
dependencies:
  - python=3.11
  - pip:
    - azureml-defaults
    - scikit-learn==1.5.2
    - inference-schema[numpy-support]
channels:
  - anaconda
  - conda-forge
"""


def test_the_documented_file_gives_its_packages_and_drops_those_that_our_runtime_replaces() -> None:
    environment = parse_environment(DOCUMENTED)
    assert environment.requirements == ("scikit-learn==1.5.2", "inference-schema[numpy-support]")
    assert environment.name == "project_environment"
    assert any("azureml-defaults" in note and "left out" in note for note in environment.notes)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("scikit-learn", "scikit-learn"),
        ("scikit-learn=1.5", "scikit-learn==1.5.*"),
        ("scikit-learn==1.5.2", "scikit-learn==1.5.2"),
        ("scikit-learn 1.5.*", "scikit-learn==1.5.*"),
        ("scikit-learn 1.5.2", "scikit-learn==1.5.2"),
        ("conda-forge::scikit-learn=1.5.2=py311h_0", "scikit-learn==1.5.2.*"),
        ("matplotlib-base >=3.8", "matplotlib>=3.8"),
    ],
)
def test_a_conda_package_that_is_the_same_on_pypi_is_taken_from_there_and_the_log_says_so(
    written: str, meant: str
) -> None:
    environment = parse_environment(f"dependencies:\n  - {written}\n".encode())
    assert environment.requirements == (meant,)
    assert any(f"taken from PyPI as {meant}" in note for note in environment.notes)


def test_ranges_of_conda_are_kept() -> None:
    environment = parse_environment(b"dependencies:\n  - numpy>=1.26,<3\n")
    assert environment.requirements[0] in ("numpy<3,>=1.26", "numpy>=1.26,<3")


@pytest.mark.parametrize(
    "python", ["python", "python=3.11", "python=3.11.4", "python==3.11.*", "python>=3.8", "python 3.11"]
)
def test_the_python_of_the_base_may_be_asked_for_in_any_way(python: str) -> None:
    assert parse_environment(f"dependencies:\n  - {python}\n".encode()).requirements == ()


@pytest.mark.parametrize("python", ["python=3.8", "python=3.6.2", "python>=3.12", "python<3.11", "python=3.1"])
def test_another_python_is_refused_and_the_error_says_which_is_possible(python: str) -> None:
    with pytest.raises(EnvironmentInvalid, match=r"write python=3\.11") as caught:
        parse_environment(f"name: x\ndependencies:\n  - {python}\n".encode(), "myenv.yml")
    assert caught.value.line == 3
    assert "myenv.yml, line 3" in caught.value.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"dependencies: [a, b", 1, "no YAML"),
        (b"name: x\n\tdependencies:\n", 2, "no YAML"),
        (b"- numpy\n- pandas\n", 1, "no conda environment"),
        (b"hello", 1, "no conda environment"),
        (b"name: x\ndependency:\n  - a\n", 2, "'dependency' is not a key"),
        (b"dependencies: numpy\n", 1, "must be a list"),
        (b"dependencies:\n  - python=3.11\n  - gdal=3.8\n", 3, "'gdal' is not supported"),
        (b"dependencies:\n  - numpy=one\n", 2, "no version constraint"),
        (b"dependencies:\n  - pip:\n    - -e .\n", 3, "'-e' cannot be used"),
        (b"dependencies:\n  - pip:\n    - -r requirements.txt\n", 3, "'-r' cannot be used"),
        (b"dependencies:\n  - pip:\n    - ./local.whl\n", 3, "cannot be built into an image"),
        (b"dependencies:\n  - pip:\n    - git+https://example.org/x.git\n", 3, "cannot be built into an image"),
        (b"dependencies:\n  - pip:\n    - numpy pandas\n", 3, "no requirement"),
        (b"dependencies:\n  - pip:\n    - {a: b}\n", 3, "must be one requirement"),
        (b"dependencies:\n  - pip2:\n    - a\n", 2, "'pip2' is not known"),
        (b"dependencies:\n  - [a]\n", 2, "list inside the list"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_line(text: bytes, line: int, words: str) -> None:
    with pytest.raises(EnvironmentInvalid, match=words) as caught:
        parse_environment(text)
    assert caught.value.line == line


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(EnvironmentInvalid, match="no text in UTF-8"):
        parse_environment(b"\x80\x04\x95pickle")


def test_a_file_of_megabytes_is_refused_unread() -> None:
    with pytest.raises(EnvironmentInvalid, match="too many"):
        parse_environment(b"#" * (2 << 20))


def test_deep_nesting_is_refused_and_does_not_break_the_reader() -> None:
    with pytest.raises(EnvironmentInvalid):
        parse_environment(b"[" * 100_000)


def test_an_empty_file_is_an_empty_environment() -> None:
    assert parse_environment(b"# nothing\n").requirements == ()


def test_index_options_are_kept_and_their_passwords_appear_in_no_message() -> None:
    environment = parse_environment(
        b"dependencies:\n  - pip:\n    - --extra-index-url https://me:secret@example.org/simple\n    - six\n"
    )
    assert environment.options == ("--extra-index-url https://me:secret@example.org/simple",)
    with pytest.raises(EnvironmentInvalid) as caught:
        parse_environment(b"dependencies:\n  - pip:\n    - git+https://me:secret@example.org/x.git\n")
    assert "secret" not in caught.value.message
