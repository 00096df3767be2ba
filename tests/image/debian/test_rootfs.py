import io
import lzma
import random
import tarfile
from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image.debian.deb import BrokenPackage, open_data
from sanderling.image.debian.packages import Package
from sanderling.image.debian.rootfs import build_root
from sanderling.image.layers.tree import Entry, PathRefused


def make_deb(path: Path, files: dict[str, bytes | str], compress: str = "xz") -> Path:
    """A Debian package with *files*: bytes are content, text is a link, a name that ends in / is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo("./" + name.rstrip("/"))
            info.mode = 0o755
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = lzma.compress(buffer.getvalue()) if compress == "xz" else buffer.getvalue()
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (f"data.tar.{compress}", data)]
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members:
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def package(name: str) -> Package:
    return Package(name, "1.0", f"pool/{name}.deb", "00" * 32, 1, "", f"Package: {name}\n", "main")


def root_of(folder: Path, **packages: dict[str, bytes | str]) -> dict[str, Entry]:
    files = {name: make_deb(folder / f"{name}.deb", content) for name, content in packages.items()}
    return {entry.path: entry for entry in build_root([package(name) for name in packages], files)}


def test_files_below_the_root_move_below_usr_and_links_keep_their_meaning(tmp_path: Path) -> None:
    root = root_of(
        tmp_path, a={"lib/x/libc.so.6": b"c", "lib/x/l.so": "/lib/x/libc.so.6", "lib64/ld.so": "/lib/x/libc.so.6"}
    )
    assert root["usr/lib/x/libc.so.6"].content == b"c"
    assert root["usr/lib/x/l.so"].target == "/usr/lib/x/libc.so.6"
    assert (root["lib"].kind, root["lib"].target) == ("link", "usr/lib")
    assert root["lib64"].target == "usr/lib64"


def test_manuals_and_translations_are_left_out_and_copyright_stays(tmp_path: Path) -> None:
    root = root_of(
        tmp_path, a={"usr/share/doc/a/copyright": b"c", "usr/share/doc/a/README": b"r", "usr/share/man/man1/a.1": b"m"}
    )
    assert "usr/share/doc/a/copyright" in root
    assert not [path for path in root if "README" in path or "/man1" in path]


def test_certificates_are_bundled_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = "usr/share/ca-certificates/mozilla"
    root = root_of(tmp_path, ca={f"{folder}/b.crt": b"B\n", f"{folder}/a.crt": b"A\n"})
    assert root["etc/ssl/certs/ca-certificates.crt"].content == b"A\nB\n"


def test_the_root_has_a_user_a_python_and_a_record_for_scanners(tmp_path: Path) -> None:
    root = root_of(tmp_path, a={"usr/bin/python3.11": b"elf"})
    assert b"nonroot:x:65532:65532" in bytes(root["etc/passwd"].content)  # type: ignore[arg-type]
    assert root["usr/bin/python3"].target == "python3.11"
    assert root["home/nonroot"].owner == 65532
    assert root["tmp"].mode == 0o1777
    assert root["var/lib/dpkg/status.d/a"].content == b"Package: a\n"


def test_two_packages_with_different_files_of_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="two Debian packages bring /usr/lib/x"):
        root_of(tmp_path, a={"usr/lib/x": b"1"}, b={"usr/lib/x": b"2"})


def test_a_package_that_leads_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PathRefused, match="outside"):
        root_of(tmp_path, a={"usr/../../etc/shadow": b"x"})


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, b"PK\x03\x04"])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(content)
    with pytest.raises(BrokenPackage, match=r"a\.deb"), open_data(path):
        pass


def test_a_package_with_damaged_data_is_refused(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "a.deb", {"usr/lib/x": random.Random(1).randbytes(10000)})
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BrokenPackage):
        build_root([package("a")], {"a": path})


def test_a_compression_that_we_do_not_read_is_named(tmp_path: Path) -> None:
    path = make_deb(tmp_path / "a.deb", {"usr/lib/x": b"1"}, compress="zst")
    with pytest.raises(BrokenPackage, match=r"data\.tar\.zst is not supported"), open_data(path):
        pass
