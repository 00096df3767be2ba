"""Say what the solver found wrong in our words: which package, which channels, and the way out."""

import re
from collections.abc import Sequence

from sanderling.errors import Denied, Invalid, SanderlingError, Unavailable
from sanderling.image.conda.wish import Wish
from sanderling.image.events import without_credentials

MAX_LINES = 12


class CondaUnsolvable(Invalid):
    """No set of conda packages is what the environment asks for; *package* is the culprit where one is known."""

    def __init__(self, text: str, *, package: str | None = None) -> None:
        super().__init__(text)
        self.package = package

    @classmethod
    def missing(cls, name: str, wish: Wish, similar: Sequence[str], elsewhere: Sequence[str]) -> "CondaUnsolvable":
        """No channel has *name* for the platform; *elsewhere* are other platforms that have it."""
        where = f"none of the channels asked ({_channels(wish)}) has it for {wish.subdir}"
        out = "if PyPI has it, move it to the 'pip:' section; else name its channel under 'channels:'"
        if elsewhere:
            there = ", ".join(elsewhere)
            out = f"there it is for {there} only: build for that platform, or move it to the 'pip:' section"
        elif similar:
            out = f"did you mean {' or '.join(sorted(similar))}? Else {out}"
        return cls(f"conda package '{name}': {where}; {out}", package=name)

    @classmethod
    def no_version(cls, name: str, spec: str, wish: Wish, newest: Sequence[str]) -> "CondaUnsolvable":
        """The channels have *name*, in the versions *newest* among others, and none of them fits *spec*."""
        where = f"in the channels asked ({_channels(wish)}) for {wish.subdir}"
        return cls(
            f"no version of '{name}' fits {spec} {where}; there are: {', '.join(newest)}. Loosen or mend it",
            package=name,
        )


def explain_conflict(text: str, wish: Wish) -> SanderlingError:
    """The error for what the solver said."""
    lines = [line.rstrip() for line in without_credentials(text).splitlines() if line.strip()]
    lines[:1] = [re.sub(r"^Cannot solve the request because of:\s*", "", line) for line in lines[:1]]
    said = "\n".join(lines[:MAX_LINES]) + ("\n…" if len(lines) > MAX_LINES else "")
    if re.search(r"time ?(d )?out|cancel", text, re.IGNORECASE):
        return Unavailable("conda's solver took too long; pin more of the packages")
    for name, version in (("__glibc", f"glibc {wish.glibc[0]}.{wish.glibc[1]}"), ("__cuda", "no CUDA")):
        if name in text:
            said += f"\n({name}: the base of the image has {version})"
    package = re.search(r"(?:No candidates were found for|nothing provides) (?:\S+::)?(?P<name>[A-Za-z0-9_.-]+)", text)
    return CondaUnsolvable(
        f"the conda packages {', '.join(wish.specs)} cannot be together on {wish.subdir}. Loosen one of the versions. "
        f"Channels asked: {_channels(wish)}. The solver says: {said}",
        package=package["name"] if package else None,
    )


def explain_repodata(error: Exception, wish: Wish) -> SanderlingError:
    """The error for a channel whose index could not be read."""
    text = " ".join(without_credentials(_chain(error)).split())
    if re.search(r"\b(401|403)\b|Unauthorized|Forbidden", text):
        return Denied(
            f"a conda channel asks for a user and password ({_channels(wish)}); write it as "
            f"https://USER:PASSWORD@HOST/CHANNEL or https://HOST/t/TOKEN/CHANNEL: {_short(text)}"
        )
    if re.search(r"\b404\b|not found|No such file|could not find", text, re.IGNORECASE):
        return CondaUnsolvable(
            f"a conda channel is not there, or has no index for {wish.subdir} and noarch ({_channels(wish)}): "
            f"{_short(text)}"
        )
    if re.search(r"certificate|UnknownIssuer", text, re.IGNORECASE):
        return Unavailable(f"the certificate of a conda channel is not trusted ({_channels(wish)}): {_short(text)}")
    return Unavailable(f"a conda channel does not answer ({_channels(wish)}): {_short(text)}")


def _chain(error: BaseException) -> str:
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        parts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return "; ".join(parts)


def _channels(wish: Wish) -> str:
    return ", ".join(channel.url for channel in wish.channels)


def _short(text: str, length: int = 400) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
