"""Turn Debian packages into the files of a minimal root file system.

No package manager and no maintainer script runs. What those would have done and
a scoring server needs is done here by hand: the merged /usr, the links to
python3, the bundle of certificates, users, and a record for security scanners.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.image.debian.deb import open_data
from sanderling.image.debian.packages import Package
from sanderling.image.layers.tree import Entry, safe_path

USER_ID = 65532
_MERGED = ("bin", "sbin", "lib", "lib64", "lib32", "libx32", "libo32")

# Not read by any program that is in the image. Copyright files stay: the licences ask for it.
_DROPPED = re.compile(
    r"^(usr/share/doc/.*(?<!/copyright)"
    r"|usr/share/(man|info|locale|lintian|bug|gdb|pixmaps|applications|menu|binfmts|initramfs-tools|bash-completion)/.*"
    r"|usr/share/zoneinfo/(right|posix)/.*"
    r"|usr/lib/[^/]+/(gconv|audit)/.*"
    r"|usr/lib/python3\.\d+/(test|idlelib|turtledemo|pydoc_data|lib2to3/tests|distutils/tests|ctypes/test)/.*"
    r"|usr/s?bin/(?!python3).*"
    r"|etc/(cron|init\.d|logrotate|apparmor|update-motd|profile|skel|default)[^/]*(/.*)?"
    r"|usr/lib/(valgrind|systemd|mime|binfmt\.d|locale)/.*"
    r"|var/.*)$"
)

_PASSWD = """root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
"""
_GROUP = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\ntty:x:5:\nstaff:x:50:\n"
_NSSWITCH = """passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""


class _Root:
    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def put(self, entry: Entry) -> None:
        """Add *entry*; a folder that is there already stays as it is."""
        present = self.entries.get(entry.path)
        if present is not None and present.kind == "folder" == entry.kind:
            return
        if present is not None and present != entry:
            raise Invalid(f"two Debian packages bring /{entry.path}")
        self.entries[entry.path] = entry

    def file(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        self.entries[path] = Entry(path, "file", mode, text if isinstance(text, bytes) else text.encode())

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        self.entries[path] = Entry(path, "folder", mode, owner=owner)

    def link(self, path: str, target: str) -> None:
        self.entries[path] = Entry(path, "link", 0o777, target=target)


def build_root(packages: Iterable[Package], files: Mapping[str, Path], python: str = "3.11") -> list[Entry]:
    """The entries of the root file system made of *packages*, whose files are *files* by name.

    python3 is the *python* among them.

    Raises BrokenPackage or Invalid for a package that is not as Debian's are.
    """
    root = _Root()
    listed = sorted(packages, key=lambda package: package.name)
    for package in listed:
        _unpack(root, package.name, files[package.name])
    for name in ("bin", "sbin", "lib"):
        root.link(name, f"usr/{name}")
    if any(path.startswith("usr/lib64/") for path in root.entries):
        root.link("lib64", "usr/lib64")
    _finish(root, python)
    for package in listed:
        root.file(f"var/lib/dpkg/status.d/{package.name}", package.control)
    return list(root.entries.values())


def _unpack(root: _Root, name: str, path: Path) -> None:
    with open_data(path) as tar:
        for member in tar:
            place = member.name.removeprefix("./").rstrip("/")
            if place in ("", "."):
                continue
            place = _merge_usr(safe_path(place, name))
            if place in _MERGED or _DROPPED.match(place):
                continue
            mode = member.mode & 0o755 if not member.mode & 0o1000 else 0o1777
            if member.isdir():
                root.put(Entry(place, "folder", mode))
            elif member.issym():
                root.put(Entry(place, "link", 0o777, target=_merge_target(place, member.linkname)))
            elif member.isfile():
                file = tar.extractfile(member)
                root.put(Entry(place, "file", mode, file.read() if file else b""))
            elif member.islnk():
                original = root.entries.get(_merge_usr(member.linkname.removeprefix("./")))
                if original is not None:
                    root.put(Entry(place, "file", original.mode, original.content))
            else:
                raise Invalid(f"Debian package {name} brings a device file, /{place}")


def _merge_usr(path: str) -> str:
    head, _, rest = path.partition("/")
    return f"usr/{path}" if head in _MERGED and rest else path


def _merge_target(place: str, target: str) -> str:
    """The target of the link at *place*; one that climbed from /lib keeps its meaning below /usr."""
    if not target.startswith("/"):
        return target
    return "/" + _merge_usr(posixpath.normpath(target).lstrip("/"))


def _finish(root: _Root, python: str) -> None:
    """What maintainer scripts and an installer would have done."""
    root.link("usr/bin/python3", f"python{python}")
    root.link("usr/bin/python", "python3")
    root.folder("usr/lib/python3/dist-packages")
    certificates = [
        entry.content
        for path, entry in sorted(root.entries.items())
        if path.startswith("usr/share/ca-certificates/") and path.endswith(".crt") and isinstance(entry.content, bytes)
    ]
    root.file("etc/ssl/certs/ca-certificates.crt", b"".join(certificates))
    root.link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")
    root.file("etc/passwd", _PASSWD)
    root.file("etc/group", _GROUP)
    root.file("etc/nsswitch.conf", _NSSWITCH)
    root.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    root.file("etc/timezone", "Etc/UTC\n")
    root.folder("root", 0o700)
    root.folder("home/nonroot", 0o700, USER_ID)
    root.folder("tmp", 0o1777)
    root.folder("var/tmp", 0o1777)
    root.folder("var/azureml-app")
    root.link("var/run", "/run")
    for place in ("run", "proc", "sys", "dev"):
        root.folder(place)
