"""Read lines as pip's requirements files and the ``pip:`` list of conda's environment files have them.

The rules of this file:

- A line is a requirement of wheels, or an option; what would build or run something is refused.
- A path means a file that was given with the environment, and no other.
- Every refusal has its place and a way out, and shows no credentials.

Source: pip's requirements file format, PEP 508.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from sanderling.image.environment.conda_names import REPLACED
from sanderling.image.environment.environment import LOCAL_WHEEL, LocalWheel, Place
from sanderling.image.environment.given_files import GivenFiles
from sanderling.image.environment.pip_options import index_url, refuse_variables, split_options
from sanderling.image.events import without_credentials

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 10
MAX_REQUIREMENTS = 10_000

_REPOSITORY = re.compile(r"^(?:git|hg|svn|bzr)\+")
_PATH_START = re.compile(r"^(?:\.{1,2}(?:$|[/\\])|[/\\~]|[A-Za-z]:[/\\]|file:)")
_PATH_END = (".whl", ".tar.gz", ".tar.bz2", ".tgz", ".zip")
_ONLY_WHEELS = "images are made of wheels only; build a wheel of it (pip wheel) and name that by its path"


@dataclass
class PipLines:
    """Collects what the lines say. *given* are the files they may name; *variables* those of indexes."""

    given: GivenFiles
    variables: Mapping[str, str]
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    needs_hashes: bool = False
    wheels: dict[str, LocalWheel] = field(default_factory=dict)
    origins: dict[str, Place] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def read_text(self, text: str, file: str, into: list[str] | None = None) -> None:
        """Read a whole requirements file; *into* is the list of constraints for a file of them."""
        for place, line in logical_lines(text, file):
            self.read_line(line, place, into)

    def read_line(self, text: str, place: Place, into: list[str] | None = None) -> None:
        """Read one line. Raises EnvironmentInvalid."""
        text = re.sub(r"(^|\s)#.*$", "", text, flags=re.DOTALL).strip()
        if not text:
            return
        if text.startswith("-"):
            self._read_options(text, place, into)
            return
        refuse_variables(text, place)
        head, _, options = re.sub(r"\s+(--[a-z])", "\0\\1", text, count=1).partition("\0")
        name, requirement = self._requirement(head.strip(), place)
        self._read_hashes(name, options, place)
        if match := re.search(r"#sha256=([0-9a-f]{64})$", requirement):
            self.hashes.setdefault(name, []).append(match[1])
        if name in REPLACED:
            self.notes.append(f"{name}: left out, sanderling_scoring takes its place")
            return
        if into is None:
            self.origins.setdefault(name, place)
        (self.requirements if into is None else into).append(requirement)
        if len(self.requirements) + len(self.constraints) > MAX_REQUIREMENTS:
            raise place.refuse(f"these are more than {MAX_REQUIREMENTS} requirements")

    def _requirement(self, text: str, place: Place) -> tuple[str, str]:
        """The normalised name of the package and the requirement for uv."""
        shown = without_credentials(text)
        if _REPOSITORY.match(text):
            raise place.refuse(f"'{shown}': a repository cannot be built into an image; {_ONLY_WHEELS}")
        if re.match(r"^https?://", text):
            return self._of_url(text, place)
        head, _, marker = (part.strip() for part in text.partition(";"))
        path, bracket, extras = head.partition("[")
        if _PATH_START.match(path) or (path.endswith(_PATH_END) and "@" not in path):
            return self._of_path(path.strip(), bracket + extras, marker, place)
        try:
            requirement = Requirement(text)
        except InvalidRequirement as e:
            hint = ""
            if match := re.match(r"^([A-Za-z0-9._-]+)\s*=\s*(\d\S*)$", text):
                hint = f"; write {match[1]}=={match[2]}, with two equal signs"
            raise place.refuse(f"'{shown}' is no requirement: {str(e).splitlines()[0]}{hint}") from e
        name = canonicalize_name(requirement.name)
        if requirement.url is None:
            return name, text
        if _REPOSITORY.match(requirement.url):
            raise place.refuse(f"'{shown}': a repository cannot be built into an image; {_ONLY_WHEELS}", name)
        if not requirement.url.startswith(("https://", "http://")):
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            marker = str(requirement.marker or "")
            return self._of_path(requirement.url, extras, marker, place)
        self._check_url(requirement.url, place, name)
        return name, text

    def _of_url(self, text: str, place: Place) -> tuple[str, str]:
        url, _, marker = text.partition(" ;")
        self._check_url(url, place)
        name = _wheel_name(unquote(_split(url, place).path.rpartition("/")[2]), place)
        return name, f"{name} @ {url.strip()}" + (f" ;{marker}" if marker else "")

    def _check_url(self, url: str, place: Place, name: str | None = None) -> None:
        shown = without_credentials(url)
        parts = _split(url, place)
        if not parts.path.endswith(".whl"):
            raise place.refuse(f"'{shown}' is no wheel; {_ONLY_WHEELS}", name)
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise place.refuse(f"'{shown}': only https URLs of wheels can be used", name)
        if parts.username or parts.password:
            raise place.refuse(f"'{shown}': the URL of a wheel must hold no password; name its index instead", name)

    def _of_path(self, path: str, extras: str, marker: str, place: Place) -> tuple[str, str]:
        if not path.endswith(".whl"):
            raise place.refuse(f"'{path}' is no wheel; {_ONLY_WHEELS}")
        path = unquote(_split(path, place).path) if path.startswith("file:") else path
        found = self.given.find(path, place.file)
        if found is None:
            raise place.refuse(
                f"'{path}': this file was not given with the environment; given are: {self.given.names()}"
            )
        wheel = LocalWheel(*found)
        name = _wheel_name(wheel.file_name, place)
        if not zipfile.is_zipfile(wheel.source):
            raise place.refuse(f"'{path}' is no wheel but something else, or damaged; build it anew", name)
        known = self.wheels.setdefault(name, wheel)
        if known.path != wheel.path:
            raise place.refuse(f"'{path}': {known.path} is the same package; name one of them", name)
        requirement = f"{name}{extras} @ {LOCAL_WHEEL}{wheel.file_name}" + (f" ; {marker}" if marker else "")
        try:
            Requirement(requirement)
        except InvalidRequirement as e:
            raise place.refuse(f"'{path}{extras}' is no requirement: {str(e).splitlines()[0]}", name) from e
        return name, requirement

    def _read_hashes(self, name: str, options: str, place: Place) -> None:
        for option in options.split():
            if not option.startswith("--hash="):
                raise place.refuse(f"'{option}' cannot follow a requirement; known is --hash=sha256:...", name)
            algorithm, _, value = option.removeprefix("--hash=").partition(":")
            if algorithm in ("sha384", "sha512") and value:
                continue
            if algorithm != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
                raise place.refuse(f"'{option}' is no digest; write --hash=sha256: and 64 hexadecimal digits", name)
            self.hashes.setdefault(name, []).append(value.lower())
        if options:
            self.needs_hashes = True
            if not self.hashes.get(name):
                raise place.refuse(f"'{name}' has no sha256 digest; add one (pip hash, pip-compile)", name)

    def _read_options(self, text: str, place: Place, into: list[str] | None) -> None:
        for option, value in split_options(text, place):
            match option:
                case "-r" | "-c":
                    self._read_file(value, place, self.constraints if option == "-c" else into)
                case "note":
                    self.notes.append(value)
                case "--require-hashes":
                    self.needs_hashes = True
                case "--pre" | "--no-index":
                    self.options.append(option)
                case _:
                    self.options.append(f"{option} {index_url(option, value, place, self.variables)}")

    def _read_file(self, path: str, place: Place, into: list[str] | None) -> None:
        found = self.given.find(path, place.file)
        if found is None:
            raise place.refuse(
                f"the file '{without_credentials(path)}' was not given with the environment; "
                f"given are: {self.given.names()}"
            )
        name, source = found
        if name in self._open or len(self._open) >= MAX_DEPTH:
            raise place.refuse(f"'{path}' names itself, or files name each other more than {MAX_DEPTH} deep")
        try:
            with source.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as e:
            raise place.refuse(f"'{path}' cannot be read: {e.strerror}") from e
        self._open.append(name)
        self.read_text(decode(content, Place(name)), name, into)
        self._open.pop()


def decode(content: bytes, place: Place) -> str:
    """The text of a file, at most 1 MiB: UTF-8, or UTF-16 with its mark, as PowerShell writes it."""
    if len(content) > MAX_FILE_BYTES:
        raise place.refuse(f"{len(content)} bytes are too many for an environment file; at most {MAX_FILE_BYTES}")
    codec = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(codec)
    except UnicodeDecodeError as e:
        raise place.refuse(f"this is no text in UTF-8 (byte {e.start}): is it the right file?") from e


def logical_lines(text: str, file: str) -> Iterator[tuple[Place, str]]:
    """The lines of *text*, those that end in a backslash joined with the next; comments stay."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            joined += line[:-1].strip() + " "
            continue
        yield Place(file, first), joined + ("" if is_comment and joined else line)
        joined, first = "", 0
    if joined:
        yield Place(file, first), joined


def _split(url: str, place: Place) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as e:
        raise place.refuse(f"'{without_credentials(url)}' is no URL: {e}") from e


def _wheel_name(file_name: str, place: Place) -> str:
    try:
        return canonicalize_name(parse_wheel_filename(file_name)[0])
    except InvalidWheelFilename as e:
        raise place.refuse(f"'{file_name}' is not how a wheel is called (name-1.0-py3-none-any.whl)") from e
