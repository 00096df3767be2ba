"""Conda packages as the files they install: well made ones, odd ones and hostile ones."""

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sanderling.image.conda.lock import CondaPackage as Locked
from sanderling.image.conda.package_files import BrokenCondaPackage, open_package
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.layer_file import write_layer
from sanderling.image.layers.tree import Entry, Member, PathRefused
from tests.image.conda.packages import PLACEHOLDER, CondaPackage, File, add

PYTHON = Interpreter("3.11", "opt/conda", "opt/conda/lib/python3.11/site-packages", (2, 36))
SITE = "opt/conda/lib/python3.11/site-packages"
Open = Callable[..., dict[str, Entry]]


def locked(package: CondaPackage, **changes: Any) -> Locked:
    subdir = "noarch" if package.noarch else package.subdir
    url = f"file:///srv/channel/{subdir}/{package.file_name}"
    needs = any(depend.startswith("python") for depend in package.depends) or package.noarch == "python"
    found = Locked(
        package.name, package.version, package.build, subdir, url, "0" * 64, 1, "file:///srv/channel",
        is_noarch_python=package.noarch == "python", needs_python=needs or package.name == "python",
    )  # fmt: skip
    return replace(found, **changes)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Write a package and read it; contents are read while that can be done."""

    def call(package: CondaPackage, *, path: Path | None = None, **changes: Any) -> dict[str, Entry]:
        path = path or package.write(tmp_path / "channel")
        blob = tmp_path / "blob"
        blob.unlink(missing_ok=True)
        os.link(path, blob)  # in the cache a package has no ending that says what it is
        with open_package(blob, locked(package, **changes), PYTHON) as entries:
            return {entry.path: replace(entry, content=held(entry)) for entry in entries}

    return call


def held(entry: Entry) -> bytes:
    match entry.content:
        case Member() as member:
            with member.open() as file:
                return file.read()
        case bytes() as content:
            return content
    raise AssertionError(entry)


def record_of(entries: dict[str, Entry]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(held(entries["opt/conda/conda-meta/tool-1.0-0.json"]))
    return found


class TestInstalled:
    @pytest.mark.parametrize("ending", [".conda", ".tar.bz2"])
    def test_files_links_and_modes_are_below_the_prefix(self, opened: Open, ending: str) -> None:
        files = {"bin/tool": File(b"\x7fELF", executable=True), "lib/a.so": File(target="a.so.1"), "share/x": b"x"}
        entries = opened(CondaPackage("tool", files=files, ending=ending))
        assert entries["opt/conda/bin/tool"] == Entry("opt/conda/bin/tool", "file", 0o755, b"\x7fELF")
        assert entries["opt/conda/lib/a.so"] == Entry("opt/conda/lib/a.so", "link", 0o777, target="a.so.1")
        assert entries["opt/conda/share/x"] == Entry("opt/conda/share/x", "file", 0o644, b"x")
        assert not [path for path in entries if "/info/" in path]

    def test_the_final_prefix_is_written_into_texts_and_binaries(self, opened: Open) -> None:
        old = PLACEHOLDER.encode()
        files = {
            "bin/script": File(b"#!" + old + b"/bin/sh\n", executable=True, prefix="text"),
            "bin/program": File(b"\x7f" + old + b"/lib\0end", executable=True, prefix="binary"),
        }
        entries = opened(CondaPackage("tool", files=files))
        assert entries["opt/conda/bin/script"].content == b"#!/opt/conda/bin/sh\n"
        program = entries["opt/conda/bin/program"].content
        assert isinstance(program, bytes)
        assert program.startswith(b"\x7f/opt/conda/lib\0\0")
        assert len(program) == len(old) + 9

    def test_a_noarch_package_goes_where_the_images_python_looks(self, opened: Open) -> None:
        files = {"site-packages/tool/__init__.py": b"", "python-scripts/old-tool": b"#!x\n", "etc/tool.conf": b""}
        commands = ("tool = tool.cli:main", "tool-sub=tool:Group.run")
        entries = opened(CondaPackage("tool", noarch="python", files=files, commands=commands))
        assert {f"{SITE}/tool/__init__.py", "opt/conda/bin/old-tool", "opt/conda/etc/tool.conf"} <= set(entries)
        assert entries["opt/conda/bin/tool"].mode == 0o755
        assert entries["opt/conda/bin/tool"].content == (
            b"#!/opt/conda/bin/python3\nimport sys\nfrom tool.cli import main\nsys.exit(main())\n"
        )
        assert b"from tool import Group\nsys.exit(Group.run())" in held(entries["opt/conda/bin/tool-sub"])

    def test_a_generic_noarch_package_stays_where_it_is(self, opened: Open) -> None:
        entries = opened(CondaPackage("tz", noarch="generic", files={"share/zoneinfo/UTC": b"TZif"}))
        assert entries["opt/conda/share/zoneinfo/UTC"].content == b"TZif"

    def test_the_record_says_what_was_installed_without_dates_and_places_of_this_machine(self, opened: Open) -> None:
        package = CondaPackage("tool", files={"share/b": b"", "share/a": b""}, depends=("python",))
        record = record_of(opened(package))
        assert record["files"] == ["share/a", "share/b"]
        assert (record["name"], record["version"], record["build"], record["subdir"]) == (
            "tool",
            "1.0",
            "0",
            "linux-64",
        )
        assert (record["channel"], record["url"]) == ("channel", "")
        assert "/srv" not in json.dumps(record)

    def test_the_record_of_a_package_from_the_net_says_from_where(self, opened: Open) -> None:
        url = "https://conda.anaconda.org/conda-forge"
        package = CondaPackage("tool", files={"share/a": b""})
        changes = {"channel": url, "url": f"{url}/linux-64/{package.file_name}"}
        record = record_of(opened(package, **changes))
        assert (record["channel"], record["url"]) == (url, f"{url}/linux-64/tool-1.0-0.conda")

    def test_a_package_without_paths_json_is_read_by_its_older_lists(self, opened: Open, tmp_path: Path) -> None:
        index = {"name": "tool", "version": "1.0", "build": "0", "build_number": 0, "depends": []}
        members = {
            "info/index.json": json.dumps(index).encode(),
            "info/files": b"bin/tool\nshare/x\n",
            "info/has_prefix": f"{PLACEHOLDER} text bin/tool\n".encode(),
            "bin/tool": f"#!{PLACEHOLDER}/bin/sh\n".encode(),
            "share/x": b"x",
        }
        entries = opened(CondaPackage("tool", ending=".tar.bz2"), path=archive(tmp_path, members))
        assert entries["opt/conda/bin/tool"].content == b"#!/opt/conda/bin/sh\n"
        assert entries["opt/conda/share/x"].content == b"x"

    def test_the_same_package_gives_the_same_layer_wherever_it_is_unpacked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sanderling.blobs import FileBlobs

        files = {"lib/b.txt": b"b" * 5000, "bin/a": File(PLACEHOLDER.encode() + b"\0", prefix="binary")}
        package = CondaPackage("tool", files=files)
        path = package.write(tmp_path / "channel")
        digests = set()
        for folder, mask in (("one", 0o022), ("another", 0o077)):
            (tmp_path / folder).mkdir()
            monkeypatch.setenv("TMPDIR", str(tmp_path / folder))
            monkeypatch.setattr("tempfile.tempdir", None)
            before = os.umask(mask)
            try:
                with open_package(path, locked(package), PYTHON) as entries:
                    digests.add(write_layer(entries, FileBlobs(tmp_path / folder / "blobs"), "tool").diff_id)
            finally:
                os.umask(before)
        assert len(digests) == 1


def archive(folder: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """An archive with just *members*, however wrong they are."""
    path = folder / "odd.tar.bz2"
    with tarfile.open(path, "w:bz2") as tar:
        for place, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                add(tar, place, File(content), 0)
    return path


def odd(paths: list[str], **members: bytes) -> dict[str, bytes | tarfile.TarInfo]:
    listed = [{"_path": path, "path_type": "hardlink"} for path in paths]
    index = {"name": "tool", "version": "1.0", "build": "0", "build_number": 0, "depends": []}
    return {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths_version": 1, "paths": listed}).encode(),
        **members,
    }


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


class TestRefused:
    TOOL = CondaPackage("tool", ending=".tar.bz2")

    @pytest.mark.parametrize("content", [b"", b"no archive", b"BZh91AY&SY" + bytes(50)])
    @pytest.mark.parametrize("ending", [".conda", ".tar.bz2"])
    def test_what_is_no_archive_is_named(self, opened: Open, tmp_path: Path, content: bytes, ending: str) -> None:
        path = tmp_path / "broken"
        path.write_bytes(content)
        with pytest.raises(BrokenCondaPackage, match=r"the conda package tool-1\.0-0") as caught:
            opened(CondaPackage("tool", ending=ending), path=path)
        assert str(tmp_path) not in caught.value.message

    def test_an_archive_that_was_cut_is_refused(self, opened: Open, tmp_path: Path) -> None:
        path = CondaPackage("tool", files={"share/x": bytes(500_000)}).write(tmp_path / "whole")
        cut = tmp_path / "cut"
        cut.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(BrokenCondaPackage, match="broken archive"):
            opened(CondaPackage("tool"), path=cut)

    def test_a_path_that_leads_outside_is_refused(self, opened: Open, tmp_path: Path) -> None:
        members = odd(["../../etc/passwd"], **{"share/x": b""})
        with pytest.raises((PathRefused, BrokenCondaPackage)):
            opened(self.TOOL, path=archive(tmp_path, members))

    def test_a_file_of_this_machine_cannot_be_reached_through_a_link(self, opened: Open, tmp_path: Path) -> None:
        secret = tmp_path / "secrets"
        secret.mkdir()
        (secret / "key").write_text("of this machine")
        members = odd(["lib/dir", "lib/dir/key"]) | {"lib/dir": link("lib/dir", str(secret))}
        with pytest.raises(BrokenCondaPackage):
            opened(self.TOOL, path=archive(tmp_path, members))

    def test_nothing_is_written_outside_of_the_folder_it_is_unpacked_in(self, opened: Open, tmp_path: Path) -> None:
        target = tmp_path / "outside"
        target.mkdir()
        members = odd([]) | {"dir": link("dir", str(target)), "dir/planted": b"x", "../planted": b"x"}
        with pytest.raises(BrokenCondaPackage):
            opened(self.TOOL, path=archive(tmp_path, members))
        assert not list(target.iterdir())

    def test_a_file_that_is_listed_and_not_there_is_named(self, opened: Open, tmp_path: Path) -> None:
        with pytest.raises(BrokenCondaPackage, match="the file share/gone, which it lists, is not in it"):
            opened(self.TOOL, path=archive(tmp_path, odd(["share/gone"])))

    def test_a_package_that_is_another_is_refused(self, opened: Open, tmp_path: Path) -> None:
        other = CondaPackage("other", files={"share/x": b""})
        path = other.write(tmp_path / "channel")
        with pytest.raises(BrokenCondaPackage, match=r"its index\.json is of the package 'other'"):
            opened(CondaPackage("tool"), path=path)

    def test_a_list_of_files_that_is_none_is_refused(self, opened: Open, tmp_path: Path) -> None:
        members = odd([]) | {"info/paths.json": b"{"}
        with pytest.raises(BrokenCondaPackage, match="its list of files cannot be read"):
            opened(self.TOOL, path=archive(tmp_path, members))

    def test_a_pipe_becomes_no_pipe(self, opened: Open, tmp_path: Path) -> None:
        pipe = tarfile.TarInfo("share/pipe")
        pipe.type = tarfile.FIFOTYPE
        entries = opened(self.TOOL, path=archive(tmp_path, odd(["share/pipe"]) | {"share/pipe": pipe}))
        assert entries["opt/conda/share/pipe"] == Entry("opt/conda/share/pipe", "file", 0o644, b"")

    def test_a_command_that_names_no_function_is_refused(self, opened: Open) -> None:
        package = CondaPackage("tool", noarch="python", commands=("tool = os:system('x')",))
        with pytest.raises(BrokenCondaPackage, match="names no function"):
            opened(package)

    def test_a_command_outside_of_the_folder_of_commands_is_refused(self, opened: Open) -> None:
        with pytest.raises(PathRefused):
            opened(CondaPackage("tool", noarch="python", commands=("../../../etc/tool = tool:main",)))


class TestBytecode:
    def test_what_a_package_brings_is_kept_and_made_valid(self, opened: Open, tmp_path: Path) -> None:
        files = compiled(tmp_path, "tool", b"x = 1\n")
        entries = opened(CondaPackage("tool", depends=("python",), files=files))
        content = entries[f"{SITE}/__pycache__/tool.cpython-311.pyc"].content
        assert isinstance(content, bytes)
        assert content[4:8] == b"\1\0\0\0"

    def test_what_is_not_of_its_source_or_of_another_python_is_left_out(self, opened: Open, tmp_path: Path) -> None:
        files = compiled(tmp_path, "tool", b"x = 1\n")
        files["lib/python3.11/site-packages/tool.py"] = b"x = 2; y = 1\n"
        files["lib/python3.11/site-packages/__pycache__/tool.cpython-310.pyc"] = b"x" * 40
        files["lib/python3.11/site-packages/__pycache__/gone.cpython-311.pyc"] = b"x" * 40
        entries = opened(CondaPackage("tool", depends=("python",), files=files))
        assert [path for path in entries if path.endswith(".pyc")] == []


def compiled(folder: Path, name: str, source: bytes) -> dict[str, File | bytes]:
    """A module and its bytecode by the Python that runs here (whose tag is written as 3.11's)."""
    import py_compile

    path = folder / f"{name}.py"
    path.write_bytes(source)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    content = Path(py_compile.compile(str(path), doraise=True)).read_bytes()
    site = "lib/python3.11/site-packages"
    return {f"{site}/{name}.py": source, f"{site}/__pycache__/{name}.cpython-311.pyc": content}
