"""Split a Dockerfile into instructions: lines joined, comments dropped, flags and forms told apart.

Source: Docker's Dockerfile reference, "Format", "Parser directives".
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sanderling.dockerfile.refused import DockerfileInvalid

MAX_BYTES = 1 << 20
MAX_INSTRUCTIONS = 1000
_DIRECTIVE = re.compile(r"^\s*#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*$")
_DIRECTIVES = ("syntax", "escape", "check")
_FLAG = re.compile(r"--([A-Za-z][A-Za-z-]*)(?:=(\S*))?(?:\s+|$)")
_HEREDOC = re.compile(r"""(?:^|\s)\d*<<-?["']?[A-Za-z_]""")
_WITH_FLAGS = ("ADD", "COPY", "HEALTHCHECK", "RUN")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")
NAMES = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: *name* in capitals, *rest* as it is written after the flags, *line* where it begins.

    *flags* are name and value in order. *escape* is the file's escape character.
    """

    name: str
    rest: str
    file: str
    line: int
    flags: tuple[tuple[str, str], ...] = ()
    escape: str = "\\"

    @property
    def text(self) -> str:
        """The instruction on one line, for messages and titles."""
        shown = " ".join([self.name, *(f"--{name}={value}" if value else f"--{name}" for name, value in self.flags)])
        return f"{shown} {' '.join(self.rest.split())}".strip()

    def as_list(self) -> list[str] | None:
        """The words of the JSON form, ``["a", "b"]``; None for the other form."""
        if not self.rest.startswith("["):
            return None
        try:
            words = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None
        return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None

    def refuse(self, text: str) -> DockerfileInvalid:
        """The error that says what is wrong with this instruction."""
        return DockerfileInvalid(text, file=self.file, line=self.line)


def parse_dockerfile(content: bytes, file: str) -> tuple[Instruction, ...]:
    """The instructions of *content*, which messages call *file*. Raises DockerfileInvalid with the line."""
    if len(content) > MAX_BYTES:
        raise DockerfileInvalid(f"{len(content)} bytes are too many for a Dockerfile", file=file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise DockerfileInvalid("this is no UTF-8 text", file=file, line=line) from e
    lines = text.replace("\r\n", "\n").split("\n")
    reading = _Reading(file, _escape(lines, file))
    found = tuple(reading.instruction(line, joined) for line, joined in reading.joined(lines))
    if len(found) > MAX_INSTRUCTIONS:
        raise DockerfileInvalid(f"it has more than {MAX_INSTRUCTIONS} instructions", file=file)
    return found


def _escape(lines: list[str], file: str) -> str:
    """The escape character: what the directive at the top says, else a backslash."""
    escape, seen = "\\", set()
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line)
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        name = match[1].lower()
        if name in seen:
            raise DockerfileInvalid(f"the directive '{name}' is there twice", file=file, line=number)
        seen.add(name)
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileInvalid(
                    f"the escape character can be \\ or `, and not {match[2]!r}", file=file, line=number
                )
            escape = match[2]
    return escape


@dataclass(slots=True)
class _Reading:
    file: str
    escape: str
    _goes_on: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        mark = re.escape(self.escape)
        self._goes_on = re.compile(rf"(?:(?<=[^{mark}])|^){mark}[ \t]*$")

    def joined(self, lines: list[str]) -> Iterator[tuple[int, str]]:
        """Each instruction as one line, with the number of its first; comments and empty lines are dropped."""
        begun, pieces = 0, list[str]()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not pieces:
                begun, line = number, line.lstrip()
            end = self._goes_on.search(line)
            pieces.append(line[: end.start()] if end else line)
            if end is None:
                yield begun, "".join(pieces).strip()
                pieces = []
        if "".join(pieces).strip():
            yield begun, "".join(pieces).strip()

    def instruction(self, line: int, text: str) -> Instruction:
        word, _, rest = text.replace("\t", " ", 1).partition(" ") if "\t" in text.split(" ")[0] else text.partition(" ")
        name, rest = word.upper(), rest.strip()
        if name not in NAMES:
            raise DockerfileInvalid(f"{word[:40]!r} is no instruction of a Dockerfile", file=self.file, line=line)
        flags = []
        while name in _WITH_FLAGS and (match := _FLAG.match(rest)):
            flags.append((match[1], match[2] or ""))
            rest = rest[match.end() :]
        if name in _WITH_HEREDOCS and _HEREDOC.search(rest) and not rest.startswith("["):
            way = "write it into a file beside the Dockerfile and COPY it" if name != "RUN" else "join lines with && \\"
            raise DockerfileInvalid(f"here-documents (<<EOF) are not read; {way}", file=self.file, line=line)
        if not rest and name != "FROM":
            raise DockerfileInvalid(f"{name} needs something after it", file=self.file, line=line)
        return Instruction(name, rest, self.file, line, tuple(flags), self.escape)
