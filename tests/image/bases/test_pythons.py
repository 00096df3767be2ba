import io
import tarfile

import pytest

from sanderling.image.bases.pythons import BaseRefused, find_pythons, find_user, is_wanted
from sanderling.image.bases.root import Root
from sanderling.image.interpreter import Interpreter
from sanderling.oci import Platform
from tests.image.bases.images import LIBC, Files, elf, python_files, tar_of

AMD64 = Platform("linux", "amd64")
PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
LIBRARY = {"usr/lib/x86_64-linux-gnu/libc.so.6": LIBC}


def root_of(files: Files) -> Root:
    root = Root(is_wanted)
    with tarfile.open(fileobj=io.BytesIO(tar_of(files)), mode="r|") as tar:
        root.add_layer(tar)
    return root


def pythons(files: Files, search: tuple[str, ...] = PATH, platform: Platform = AMD64) -> list[Interpreter]:
    return find_pythons(root_of(files), search, platform, "x:1")


def test_the_official_python_images_have_theirs_below_usr_local() -> None:
    assert pythons(python_files()) == [
        Interpreter("3.12", "usr/local", "usr/local/lib/python3.12/site-packages", (2, 36))
    ]


def test_packages_beside_debians_own_go_where_its_pip_puts_them() -> None:
    files = {
        **LIBRARY,
        "bin": "usr/bin",
        "usr/bin/python3.11": elf(),
        "usr/bin/python3": "python3.11",
        "usr/lib/python3/dist-packages": None,
    }
    found = pythons(files)
    assert found == [
        Interpreter("3.11", "usr/local", "usr/local/lib/python3.11/dist-packages", (2, 36), "usr/bin/python3")
    ]
    assert found[0].executable == "/usr/bin/python3"
    assert found[0].scripts == "usr/local/bin"


def test_red_hats_python_has_its_packages_below_usr_and_glibc_in_lib64() -> None:
    files = {
        "lib64": "usr/lib64",
        "usr/lib64/libc.so.6": LIBC.replace(b"2.36.", b"2.34."),
        "usr/bin/python3.9": elf(),
        "usr/bin/python3": "./python3.9",
        "usr/lib/python3.9/site-packages": None,
    }
    assert pythons(files) == [Interpreter("3.9", "usr", "usr/lib/python3.9/site-packages", (2, 34))]


def test_a_virtual_environment_that_is_first_in_the_path_is_the_one() -> None:
    files = {
        **python_files(),
        "opt/app/pyvenv.cfg": b"home = /usr/local/bin\n",
        "opt/app/bin/python3": "python",
        "opt/app/bin/python": "/usr/local/bin/python3.12",
    }
    found = pythons(files, ("/opt/app/bin", *PATH))
    assert found == [Interpreter("3.12", "opt/app", "opt/app/lib/python3.12/site-packages", (2, 36))]


def test_condas_python_is_found_although_the_path_does_not_name_it() -> None:
    files = {**LIBRARY, "opt/conda/bin/python3.10": elf(), "opt/conda/bin/python3": "python3.10"}
    files["opt/conda/lib/python3.10/os.py"] = b""
    assert pythons(files) == [Interpreter("3.10", "opt/conda", "opt/conda/lib/python3.10/site-packages", (2, 36))]


def test_of_several_the_one_that_python3_means_is_first() -> None:
    files = {**python_files("3.10"), "usr/local/bin/python3.13": elf(), "usr/local/lib/python3.13/os.py": b""}
    found = pythons(files)
    assert [(p.version, p.executable) for p in found] == [
        ("3.10", "/usr/local/bin/python3"),
        ("3.13", "/usr/local/bin/python3.13"),
    ]


def test_a_link_to_a_python_elsewhere_has_its_packages_there() -> None:
    files = {**LIBRARY, "opt/py/bin/python3.12": elf(), "usr/bin/python3": "/opt/py/bin/python3.12"}
    files["opt/py/lib/python3.12/os.py"] = b""
    assert pythons(files) == [
        Interpreter("3.12", "opt/py", "opt/py/lib/python3.12/site-packages", (2, 36), "usr/bin/python3")
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**LIBRARY, "usr/bin/perl": elf()}, "it has no Python; the scoring server needs Python 3.9 or newer"),
        ({**LIBRARY, "usr/bin/python3": "python3.11"}, "it has no Python"),
        (python_files("3.8"), "its Python is 3.8; the scoring server needs Python 3.9"),
        (python_files(architecture="arm64"), "no glibc for linux/amd64"),
        ({**python_files(), "usr/local/bin/python3.12": elf("arm64")}, "for linux/amd64, and its Python is for arm64"),
        (
            {"usr/bin/python3.12": elf(), "usr/bin/python3": "python3.12", "lib/ld-musl-x86_64.so.1": b""},
            r"musl \(Alpine\)",
        ),
    ],
)
def test_a_base_that_cannot_run_is_refused_with_the_reason(files: Files, words: str) -> None:
    with pytest.raises(BaseRefused, match=words):
        pythons(files)


@pytest.mark.parametrize(
    ("user", "numbers"),
    [
        ("", ""),
        ("root", ""),
        ("0:0", ""),
        ("0", ""),
        ("toor", ""),
        ("1000", "1000"),
        ("1000:50", "1000:50"),
        ("app", "1000:1001"),
        ("app:staff", "1000:50"),
        ("nobody-knows", "nobody-knows"),
    ],
)
def test_a_user_is_kept_as_numbers_unless_it_is_root(user: str, numbers: str) -> None:
    passwd = b"root:x:0:0::/:\ntoor:x:0:0::/:\napp:x:1000:1001::/:\n"
    root = root_of({"etc/passwd": passwd, "etc/group": b"staff:x:50:\n"})
    assert find_user(root, user) == numbers
