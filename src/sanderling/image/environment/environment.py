"""What an environment file says, whatever its form, and where it says so."""

from dataclasses import dataclass, field
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.image.environment.conda_part import CondaPart

# In a requirement, in place of a URL: the local wheel of this file name.
LOCAL_WHEEL = "wheel:"


class EnvironmentInvalid(Invalid):
    """The environment file cannot be used as it is; *line* counts from 1 (None: the whole file)."""

    def __init__(self, text: str, *, file: str, line: int | None = None, package: str | None = None) -> None:
        where = f"{file}, line {line}" if line else file
        super().__init__(f"{where}: {text}")
        self.file, self.line, self.package = file, line, package


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1; None is the whole file."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file

    def refuse(self, text: str, package: str | None = None) -> EnvironmentInvalid:
        """The error that says what is wrong here."""
        return EnvironmentInvalid(text, file=self.file, line=self.line, package=package)


@dataclass(frozen=True, slots=True)
class PythonWish:
    """What the file says about Python: its *text*, and all versions ("3.11") that it allows."""

    text: str
    minors: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class LocalWheel:
    """A wheel beside the environment file: *path* as it is written there, *source* where it is now."""

    path: str
    source: Path

    @property
    def file_name(self) -> str:
        """The wheel's own name, which says version and platform."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Environment:
    """What the image must hold.

    requirements: for PyPI's packages; one that ends in ``@ wheel:FILE`` means that file of *wheels*.
    options: of indexes, with their credentials: never to be shown.
    notes: for the log.
    python: the wanted version ("3.13"); None when several will do.
    conda: only when the file wants what only conda has; then it has all of the conda part.
    constraints: requirements that count only for packages that are wanted anyway.
    hashes: package and the sha256 digests that its wheel may have.
    needs_hashes: every package must have a digest in *hashes*, as pip does it when one has.
    origins: package and the place that names it.
    conda_culprit: the first package that makes conda necessary, and its place.
    """

    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default=(), repr=False)
    name: str | None = None
    notes: tuple[str, ...] = ()
    python: str | None = None
    conda: CondaPart | None = None
    constraints: tuple[str, ...] = ()
    hashes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    needs_hashes: bool = False
    wheels: tuple[LocalWheel, ...] = ()
    python_wish: PythonWish | None = None
    origins: tuple[tuple[str, Place], ...] = ()
    conda_culprit: tuple[str, Place] | None = None

    def place_of(self, package: str) -> Place | None:
        """Where *package* (its name as PyPI normalises it) is named."""
        return dict(self.origins).get(package)
