import pytest

from sanderling.image.environment.conda_file import EnvironmentInvalid, parse_environment
from sanderling.image.environment.conda_part import CondaPart

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


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"dependencies: [a, b", 1, "no YAML"),
        (b"name: x\n\tdependencies:\n", 2, "no YAML"),
        (b"- numpy\n- pandas\n", 1, "no conda environment"),
        (b"hello", 1, "no conda environment"),
        (b"name: x\ndependency:\n  - a\n", 2, "'dependency' is not a key"),
        (b"dependencies: numpy\n", 1, "must be a list"),
        (b"dependencies:\n  - numpy=one\n", 2, "no version constraint"),
        (b"dependencies:\n  - pip:\n    - -e .\n", 3, "'-e' cannot be used"),
        (b"dependencies:\n  - pip:\n    - -r requirements.txt\n", 3, "'requirements.txt' was not given"),
        (b"dependencies:\n  - pip:\n    - ./local.whl\n", 3, "'./local.whl': this file was not given"),
        (b"dependencies:\n  - pip:\n    - git+https://example.org/x.git\n", 3, "cannot be built into an image"),
        (b"dependencies:\n  - pip:\n    - numpy pandas\n", 3, "no requirement"),
        (b"dependencies:\n  - pip:\n    - {a: b}\n", 3, "must be one requirement"),
        (b"dependencies:\n  - pip2:\n    - a\n", 2, "'pip2' is not known"),
        (b"dependencies:\n  - [a]\n", 2, "list inside the list"),
        (b"dependencies:\n  - sel(win):\n    - a\n", 2, "one environment; write a file for this platform"),
        (b"dependencies:\n  - numpy\n  - scipy  # [not win]\n", 3, "selectors are conda-build's"),
        (b"dependencies:\n  - pip:\n    - six # [linux]\n", 3, "selectors are conda-build's"),
        (b"dependencies:\n  - uvicorn[standard]\n", 2, r"write uvicorn\[standard\] in the 'pip:' section"),
        (b"dependencies:\n  - numpy[version=1.2\n", 2, "never closed"),
        (b"dependencies:\n  - numpy[color=red]\n", 2, "not understood"),
        (b"dependencies:\n  - x @ https://example.org/x.whl\n", 2, "write it in the 'pip:' section"),
        (b"dependencies:\n  - '>=1.2'\n", 2, "does not begin with the name"),
        (b"dependencies:\n  - python=3.11\n  - python=3.12\n", 3, "there is no such version of Python"),
        (b"dependencies:\n  - python=^3\\.1$\n", 2, "no version constraint|cannot be compared"),
        (b"channels:\n  - ./mine\n", 2, "is a path; write it as a URL"),
        (b"channels:\n  - ftp://example.org/x\n", 2, "neither https nor file"),
        (b"channels:\n  - {a: b}\n", 2, "a channel is a name"),
        (b"dependencies:\n  - pip:\n    - x.whl\n", 3, "was not given"),
        (b"dependencies:\n  - pip:\n    - dist/x-1.0.tar.gz\n", 3, "is no wheel"),
        (b"dependencies:\n  - pip:\n    - ../here\n", 3, "is no wheel"),
        (b"dependencies:\n  - pip:\n    - --no-binary=six\n", 3, "wheels only"),
        (b"dependencies:\n  - pip:\n    - --find-links ./wheels\n", 3, "name the wheels of a folder by their paths"),
        (b"dependencies:\n  - pip:\n    - -i\n", 3, "wants a value"),
        (b"dependencies:\n  - pip:\n    - numpy=1.2\n", 3, "write numpy==1.2, with two equal signs"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_line(text: bytes, line: int, words: str) -> None:
    with pytest.raises(EnvironmentInvalid, match=words) as caught:
        parse_environment(text)
    assert caught.value.line == line


def test_names_that_only_conda_has_make_the_whole_part_one_for_conda() -> None:
    text = b"""
channels: [nodefaults, conda-forge, https://example.org/t/token/mine, file:///srv/channel]
dependencies:
  - conda-forge::gdal >=3,<4
  - python=3.11  # the first that works
  - numpy=1.26=py311h_0
  - azureml-defaults
  - pip
  - pip:
    - six
"""
    environment = parse_environment(text, "myenv.yml")
    assert environment.conda == CondaPart(
        ("conda-forge", "https://example.org/t/token/mine", "file:///srv/channel"),
        ("conda-forge::gdal >=3,<4", "python=3.11", "numpy=1.26=py311h_0", "pip"),
    )
    assert (environment.requirements, environment.python) == (("six",), "3.11")


@pytest.mark.parametrize(
    "line",
    [
        "gdal",
        "mine::numpy",
        "https://example.org/c/linux-64::numpy",
        "conda-forge/linux-64::numpy",
        "numpy 1.25.*|1.26.*",
        "numpy[build_number=3]",
        "numpy[md5=abc]",
        "https://example.org/linux-64/numpy-1.26-py311_0.conda",
        "scipy (1.1|1.2)",
    ],
)
def test_what_pypi_has_no_word_for_is_for_conda(line: str) -> None:
    environment = parse_environment(f"dependencies:\n  - '{line}'\n".encode())
    assert environment.conda == CondaPart(("conda-forge",), (line,))
    assert environment.requirements == ()


@pytest.mark.parametrize(
    "channels", [b"", b"channels:\n", b"channels: [defaults]\n", b"channels: [anaconda, conda-forge]\n"]
)
def test_channels_do_not_matter_when_pypi_has_all(channels: bytes) -> None:
    environment = parse_environment(channels + b"dependencies:\n- numpy\n- pip\n- pip\n")
    assert (environment.conda, environment.requirements) == (None, ("numpy",))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("python", None),
        ("python=3.13", "3.13"),
        ("python==3.13.1", "3.13"),
        ("python 3.8.*", "3.8"),
        ("python=3.8.10=h12debd9_8", "3.8"),
        ("python>=3.11,<3.12", "3.11"),
        ("conda-forge::python >=3.12, <3.13.0a0", "3.12"),
        ("python[version='3.10.*']", "3.10"),
        ("python>=3.8", None),
        ("python 3.8|3.11", None),
    ],
)
def test_the_wanted_python_is_one_version_or_any(written: str, meant: str | None) -> None:
    environment = parse_environment(f'dependencies:\n  - "{written}"\n'.encode())
    assert (environment.python, environment.conda) == (meant, None)


def test_a_patch_level_is_the_bases_matter_and_the_log_says_so() -> None:
    environment = parse_environment(b"dependencies:\n  - python=3.11.4\n")
    assert "python=3.11.4: the last patch level" in environment.notes[0]


def test_variables_prefix_and_platforms_are_noted() -> None:
    environment = parse_environment(b"variables: {A: b}\nprefix: /x\nplatforms: [linux-64]\n")
    assert [note.split()[0] for note in environment.notes] == ["'variables'", "'prefix'", "'platforms'"]


def test_what_a_line_names_is_known_by_its_place() -> None:
    environment = parse_environment(b"dependencies:\n  - numpy\n  - pip:\n    - Foo_Bar>=1\n", "myenv.yml")
    assert str(environment.place_of("foo-bar")) == "myenv.yml, line 4"
    assert str(environment.place_of("numpy")) == "myenv.yml, line 2"


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
