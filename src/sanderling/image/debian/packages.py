"""Debian's package indexes: find a package and all that it needs.

An index holds sixty thousand stanzas and we want forty: the text is cut at empty
lines and looked at by its first line; only wanted stanzas are read further.

Source: Debian policy 5 (control files) and 7 (relations between packages).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from debian.debian_support import version_compare

from sanderling.errors import Invalid


class PackageMissing(Invalid):
    """The archive has no package *name* for this architecture."""

    def __init__(self, name: str, wanted_by: str) -> None:
        super().__init__(f"Debian package '{name}' (wanted by {wanted_by}) is not in the archive's index")
        self.name, self.wanted_by = name, wanted_by


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package: where its file is below the mirror's root, and what it must be."""

    name: str
    version: str
    filename: str
    sha256: str
    size_bytes: int
    depends: str
    control: str  # the stanza without the fields that only matter to an archive
    archive: str  # which mirror has it: "main" or "security"


class PackageIndex:
    """Several Packages files seen as one; of each name the newest version counts."""

    def __init__(self) -> None:
        self._stanzas: dict[bytes, list[tuple[str, bytes]]] = {}
        self._texts: list[tuple[str, bytes]] = []

    def add(self, text: bytes, archive: str) -> None:
        """Add the packages of one uncompressed Packages file of the archive *archive*."""
        self._texts.append((archive, text))
        for stanza in text.split(b"\n\n"):
            if stanza.startswith(b"Package: "):
                self._stanzas.setdefault(stanza[9 : stanza.find(b"\n")], []).append((archive, stanza))

    def find(self, name: str) -> Package | None:
        """The newest package called *name*, or None."""
        newest: Package | None = None
        for archive, stanza in self._stanzas.get(name.encode(), ()):
            package = _read(stanza, archive)
            if newest is None or version_compare(package.version, newest.version) > 0:
                newest = package
        return newest

    def find_provider(self, name: str) -> Package | None:
        """The first package, by name, that says it provides *name*, or None."""
        pattern = re.compile(
            rb"^Provides:[^\n]*(?<![^\s,:])" + re.escape(name.encode()) + rb"(?=[\s,(]|$)", re.MULTILINE
        )
        names = set()
        for _, text in self._texts:
            for match in pattern.finditer(text):
                start = text.rfind(b"\n\n", 0, match.start()) + 2 if b"\n\n" in text[: match.start()] else 0
                names.add(text[start + 9 : text.find(b"\n", start)].decode())
        return self.find(min(names)) if names else None

    def closure(self, wanted: Iterable[str], without: Iterable[str]) -> list[Package]:
        """*wanted* and all they depend on, sorted by name; what is in *without* is left out.

        Of alternatives the first that exists is taken. Raises PackageMissing.
        """
        skip = set(without)
        found: dict[str, Package] = {}
        queue = [(name, "the base") for name in wanted]
        while queue:
            name, wanted_by = queue.pop()
            if name in found or name in skip:
                continue
            package = self.find(name) or self.find_provider(name)
            if package is None:
                raise PackageMissing(name, wanted_by)
            if package.name in found or package.name in skip:
                continue
            found[package.name] = package
            for clause in package.depends.split(","):
                choice = self._choose(clause, skip)
                if choice:
                    queue.append((choice, package.name))
        return [found[name] for name in sorted(found)]

    def _choose(self, clause: str, skip: set[str]) -> str | None:
        names = [alternative.split("(")[0].split(":")[0].split("[")[0].strip() for alternative in clause.split("|")]
        names = [name for name in names if name]
        if not names or any(name in skip for name in names):
            return None
        return next((name for name in names if name.encode() in self._stanzas), names[0])


# These describe the file in the archive, not the installed package.
_ARCHIVE_FIELDS = ("Filename", "Size", "MD5sum", "SHA1", "SHA256", "SHA512", "Description-md5")


def _read(stanza: bytes, archive: str) -> Package:
    fields: dict[str, str] = {}
    kept = []
    key = ""
    for line in stanza.decode("utf-8").splitlines():
        if line[:1] not in (" ", "\t"):
            key, _, value = line.partition(":")
            fields[key] = value.strip()
        if key not in _ARCHIVE_FIELDS:
            kept.append(line)
    try:
        depends = ", ".join(fields[key] for key in ("Pre-Depends", "Depends") if key in fields)
        return Package(
            name=fields["Package"],
            version=fields["Version"],
            filename=fields["Filename"],
            sha256=fields["SHA256"],
            size_bytes=int(fields["Size"]),
            depends=depends,
            control="\n".join(kept) + "\n",
            archive=archive,
        )
    except (KeyError, ValueError) as e:
        raise Invalid(f"Debian's index has a stanza that cannot be read: {stanza[:60]!r}") from e
