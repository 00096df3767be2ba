"""Go through the instructions with their variables: what they do to files, and what they set.

FROM, ENTRYPOINT and CMD are refused: the steps stand on a finished image, whose
process is the scoring server.
"""

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sanderling.dockerfile.healthcheck import health_check
from sanderling.dockerfile.patterns import matches
from sanderling.dockerfile.steps import Copy, Folder, Run, Step
from sanderling.dockerfile.syntax import Instruction
from sanderling.dockerfile.words import WordInvalid, expand, split_words

SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"^(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?$", re.IGNORECASE)
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_USER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$")
_CHMOD = re.compile(r"^0?[0-7]{3,4}$")
_REMOTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|git@)", re.IGNORECASE)
MAX_PORTS = 1000

_REFUSED = {
    "FROM": "the steps go upon the finished image, so there is no FROM; to build upon another image, name that as base",
    "ENTRYPOINT": "the scoring server is the image's process; take the ENTRYPOINT out",
    "CMD": "the scoring server is the image's process; take the CMD out",
    "ONBUILD": "ONBUILD is for images that others are built from; take it out",
    "MAINTAINER": "MAINTAINER is a thing of the past; write LABEL maintainer=...",
}


@dataclass(slots=True)
class Settings:
    """What an image's config says after the steps. *user* and *workdir* are empty when no step sets them.

    env has all variables, those from before included; labels, ports and the others only what steps bring.
    """

    env: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""
    shell: tuple[str, ...] = ()
    health: Mapping[str, object] | None = None
    user_at: Instruction | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The steps of a Dockerfile in order, and the settings after the last."""

    steps: tuple[Step, ...]
    settings: Settings


def evaluate(
    instructions: Iterable[Instruction],
    env: Mapping[str, str],
    workdir: str,
    *,
    kept: Collection[str] = (),
    kept_labels: str = "\0",
) -> Evaluated:
    """Go through *instructions*; *env* and *workdir* are those of the image before them.

    The variables *kept*, and labels that begin with *kept_labels*, must not be set.
    Raises DockerfileInvalid with the line.
    """
    state = _State(Settings(dict(env)), workdir, kept, kept_labels)
    for instruction in instructions:
        try:
            state.take(instruction)
        except WordInvalid as e:
            raise instruction.refuse(f"{instruction.name}: {e}") from e
    return Evaluated(tuple(state.steps), state.settings)


class _State:
    def __init__(self, settings: Settings, workdir: str, kept: Collection[str], kept_labels: str) -> None:
        self.settings, self.workdir, self.kept, self.kept_labels = settings, workdir, kept, kept_labels
        self.arguments: dict[str, str] = {}
        self.steps: list[Step] = []
        self._does: dict[str, Callable[[Instruction], None]] = {
            "ADD": self._copy,
            "ARG": self._arg,
            "COPY": self._copy,
            "ENV": self._env,
            "EXPOSE": self._expose,
            "HEALTHCHECK": self._health,
            "LABEL": self._label,
            "RUN": self._run,
            "SHELL": self._shell,
            "STOPSIGNAL": self._stop_signal,
            "USER": self._user,
            "VOLUME": self._volume,
            "WORKDIR": self._workdir,
        }

    def take(self, at: Instruction) -> None:
        if at.name in _REFUSED:
            raise at.refuse(_REFUSED[at.name])
        self._does[at.name](at)

    def _expand(self, word: str, at: Instruction) -> str:
        return expand(word, self.arguments | self.settings.env, at.escape)

    def _words(self, at: Instruction) -> list[str]:
        """The words of the list form or of the plain one, variables put in."""
        given = at.as_list()
        if given is not None:
            return [self._expand(word.replace(at.escape, at.escape * 2), at) for word in given]
        return [self._expand(word, at) for word in split_words(at.rest, at.escape)]

    def _pairs(self, at: Instruction) -> dict[str, str]:
        """NAME=VALUE of ENV and LABEL, or NAME VALUE; all see the variables as they were before."""
        words = split_words(at.rest, at.escape)
        if "=" not in words[0]:
            name, _, value = at.rest.partition(" ") if " " in at.rest else at.rest.partition("\t")
            if not value.strip():
                raise at.refuse(f"{at.name} {words[0]}: a value is missing; write {at.name} {words[0]}=VALUE")
            return {self._expand(name.strip(), at): self._expand(value.strip(), at)}
        pairs = {}
        for word in words:
            name, sign, value = word.partition("=")
            if not sign or not name:
                raise at.refuse(f"{at.name}: {word!r} is not of the form NAME=VALUE; quote a value that has blanks")
            pairs[self._expand(name, at)] = self._expand(value, at)
        return pairs

    def _env(self, at: Instruction) -> None:
        pairs = self._pairs(at)
        for name, value in pairs.items():
            if not name or "=" in name or "\0" in name + value:
                raise at.refuse(f"ENV: {name!r} is no name of a variable")
            if name in self.kept:
                raise at.refuse(
                    f"ENV: {name} is set by the image, which does not work with another value; leave it out"
                )
        self.settings.env |= pairs

    def _arg(self, at: Instruction) -> None:
        for word in split_words(at.rest, at.escape):
            name, sign, value = word.partition("=")
            if not _VARIABLE.match(name):
                raise at.refuse(f"ARG: {name!r} is no name of a variable")
            if sign:
                self.arguments[name] = self._expand(value, at)

    def _label(self, at: Instruction) -> None:
        pairs = self._pairs(at)
        if "" in pairs:
            raise at.refuse("LABEL: a name is empty")
        for name in pairs:
            if name.startswith(self.kept_labels):
                raise at.refuse(f"LABEL: {name} is one of the image's own labels; give yours another name")
        self.settings.labels |= pairs

    def _expose(self, at: Instruction) -> None:
        found = list(self.settings.ports)
        for word in " ".join(self._words(at)).split():
            match = _PORT.match(word)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if match is None or not 1 <= first <= last <= 65535 or last - first >= MAX_PORTS:
                raise at.refuse(f"EXPOSE: {word!r} is no port; write 8080, 8080/udp or 8080-8090")
            found += [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]
        self.settings.ports = tuple(dict.fromkeys(found))

    def _user(self, at: Instruction) -> None:
        user = self._expand(at.rest, at).strip()
        if not _USER.match(user):
            raise at.refuse(f"USER: {user!r} is no user; write a name or a number, and :GROUP if you like")
        self.settings.user, self.settings.user_at = user, at

    def _workdir(self, at: Instruction) -> None:
        path = self._expand(at.rest, at)
        if not path:
            raise at.refuse("WORKDIR: the path is empty")
        self.workdir = "/" + _inside(posixpath.join(self.workdir, path))
        self.settings.workdir = self.workdir
        self.steps.append(Folder(at, self.workdir.lstrip("/")))

    def _volume(self, at: Instruction) -> None:
        paths = self._words(at)
        if not all(path.strip() for path in paths):
            raise at.refuse("VOLUME: a path is empty")
        found = ["/" + _inside(posixpath.join(self.workdir, path)) for path in paths]
        self.settings.volumes = tuple(dict.fromkeys([*self.settings.volumes, *found]))

    def _stop_signal(self, at: Instruction) -> None:
        signal = self._expand(at.rest, at).strip()
        if not re.fullmatch(r"(?:SIG)?[A-Z][A-Z0-9+-]*|\d{1,2}", signal):
            raise at.refuse(f"STOPSIGNAL: {signal!r} is no signal; write SIGINT or a number")
        self.settings.stop_signal = signal

    def _shell(self, at: Instruction) -> None:
        words = at.as_list()
        if not words:
            raise at.refuse('SHELL: write it as a list, SHELL ["/bin/bash", "-c"]')
        self.settings.shell = tuple(words)

    def _health(self, at: Instruction) -> None:
        self.settings.health = health_check(at)

    def _run(self, at: Instruction) -> None:
        for name, _ in at.flags:
            raise at.refuse(f"RUN --{name}: mounts and other flags of RUN are not known here; leave them out")
        words = at.as_list()
        command = tuple(words) if words else (*(self.settings.shell or SHELL), at.rest)
        variables = self.arguments | self.settings.env
        self.steps.append(Run(at, command, variables, self.settings.user, self.workdir))

    def _copy(self, at: Instruction) -> None:
        chown, chmod = _copy_flags(at, lambda text: self._expand(text, at))
        words = self._words(at)
        if len(words) < 2:
            raise at.refuse(f"{at.name} needs what is copied, and where it goes")
        *named, target = words
        if not target:
            raise at.refuse(f"{at.name}: where it goes is empty")
        sources = tuple(_source(word, at) for word in named)
        is_folder = target.endswith(("/", "/.", "/..")) or target in (".", "..")
        if len(sources) > 1 and not is_folder:
            raise at.refuse(f"{at.name}: several are copied, so that they go to a folder: write '{target}/'")
        place = _inside(posixpath.join(self.workdir, target))
        self.steps.append(Copy(at, sources, place, is_folder, at.name == "ADD", chown, chmod))


def _copy_flags(at: Instruction, expanded: Callable[[str], str]) -> tuple[str, int | None]:
    """Owner and mode. Raises DockerfileInvalid for what cannot be."""
    chown, chmod = "", None
    for name, raw in at.flags:
        value = expanded(raw)
        if name == "chown":
            if not _USER.match(value):
                raise at.refuse(f"{at.name} --chown={value}: write a user, and :GROUP if you like")
            chown = value
        elif name == "chmod":
            if not _CHMOD.match(value):
                raise at.refuse(f"{at.name} --chmod={value}: write the mode as a number, as 755 or 0644")
            chmod = int(value, 8)
        elif name == "from":
            raise at.refuse(f"{at.name} --from={value}: there is no other stage or image here to copy from")
        elif name != "link":  # which changes no file
            raise at.refuse(f"{at.name} --{name} is not known here; --chown and --chmod are")
    return chown, chmod


def _source(text: str, at: Instruction) -> str:
    """A source as a path in the context. Raises DockerfileInvalid."""
    if _REMOTE.match(text):
        raise at.refuse(f"{at.name} {text.split('@')[-1]}: nothing is fetched here; download it and name the file")
    if not text:
        raise at.refuse(f"{at.name}: what is copied is empty")
    if "\0" in text:
        raise at.refuse(f"{at.name}: a path has a zero in it")
    depth = 0
    for part in text.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise at.refuse(f"{at.name} {text}: it leads out of the folder of the Dockerfile; copy it into that folder")
    plain = posixpath.normpath(text.lstrip("/") or ".")
    try:
        matches(plain, "")
    except ValueError as e:
        raise at.refuse(f"{at.name}: {e}") from e
    return plain


def _inside(path: str) -> str:
    """*path* from the image's root, without slashes at its ends."""
    return posixpath.normpath("/" + path).strip("/")


def first_run(steps: Sequence[Step]) -> Run | None:
    """The first step that needs an engine."""
    return next((step for step in steps if isinstance(step, Run)), None)
