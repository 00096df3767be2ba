"""Trust in a Debian archive: signed release files and what they promise.

- Only the text that a certificate of the suite's own signed is parsed; the rest of the file does not exist.
- The archive and the security archive, and each version of Debian, have keys of their own; one cannot sign for another.
- A file past its Valid-Until, or older than one seen before or than this module, is refused: somebody may be holding
  back updates. A suite that changes daily must say until when it is valid.
- A file from the future is refused: the clock is wrong, and then no other date means anything.

Source: Debian's repository format, "Release" files; deb822.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.resources import files

from pysequoia import Cert, verify

from sanderling.errors import Invalid
from sanderling.image.debian.versions import Suite

_CLOCKS_DIFFER = timedelta(hours=1)
_INDEX_LINE = re.compile(r"([0-9a-f]{64})\s+([0-9]{1,15})\s+(\S+)")


class ReleaseRefused(Invalid):
    """The release file of *suite* cannot be trusted."""

    def __init__(self, suite: str, reason: str) -> None:
        super().__init__(f"Debian's release file of {suite} is refused: {reason}")
        self.suite, self.reason = suite, reason


@dataclass(frozen=True, slots=True)
class Release:
    """What a verified release file says: when it was made, and size and sha256 of each index."""

    suite: str
    date: datetime
    indexes: dict[str, tuple[str, int]]  # path below dists/SUITE -> (sha256 in hex, bytes)
    has_by_hash: bool


def certificates(suite: Suite) -> list[Cert]:
    """The certificates that may sign for *suite*."""
    found = []
    for fingerprint, name in suite.keys.items():
        cert = Cert.from_bytes(files(__package__).joinpath("keys", name).read_bytes())
        if cert.fingerprint != fingerprint:
            raise ReleaseRefused(suite.name, f"the shipped certificate {name} is not the one that was pinned")
        found.append(cert)
    return found


def verify_release(
    raw: bytes, *, suite: Suite, certs: list[Cert], now: datetime, not_before: datetime | None = None
) -> Release:
    """Return what the InRelease file *raw* promises for *suite*.

    Raises ReleaseRefused unless one of *certs* signed it, it is for *suite*, it
    is valid at *now*, and it is not older than *not_before* or the suite's own date.
    """
    name = suite.name
    try:
        verified = verify(bytes=raw, store=lambda _ids: certs)
    except Exception as e:
        raise ReleaseRefused(name, f"no good signature of Debian's keys ({_first_line(e)})") from e
    allowed = {cert.fingerprint for cert in certs}
    if verified.bytes is None or not any(signature.certificate in allowed for signature in verified.valid_sigs):
        raise ReleaseRefused(name, "no good signature of Debian's keys")
    fields = _parse(name, verified.bytes)
    if fields.get("Codename") != name:
        raise ReleaseRefused(name, f"it is for {fields.get('Codename')!r}; is the mirror's address right?")
    date = _check_dates(suite, fields, now, not_before)
    return Release(name, date, _indexes(name, fields), fields.get("Acquire-By-Hash") == "yes")


def _check_dates(suite: Suite, fields: dict[str, str], now: datetime, not_before: datetime | None) -> datetime:
    """Return the date of the release file when it, and its end, are right at *now*."""
    date, until = _date(suite.name, fields, "Date"), _date(suite.name, fields, "Valid-Until")
    if date is None:
        raise ReleaseRefused(suite.name, "it has no date")
    if date > now + _CLOCKS_DIFFER:
        text = f"it is of {date:%Y-%m-%d %H:%M} UTC, which is still to come; is this machine's clock right?"
        raise ReleaseRefused(suite.name, text)
    if until is None and suite.expires:
        raise ReleaseRefused(suite.name, "it does not say until when it is valid, and this suite's files do")
    if until is not None and until < now:
        text = f"it expired at {until:%Y-%m-%d %H:%M} UTC; is the mirror stale, or the clock wrong?"
        raise ReleaseRefused(suite.name, text)
    if not_before is not None and date < not_before:
        text = f"it is of {date:%Y-%m-%d %H:%M}, older than one seen before of {not_before:%Y-%m-%d %H:%M}"
        raise ReleaseRefused(suite.name, f"{text}; is the mirror stale?")
    if date < suite.since:
        text = f"it is of {date:%Y-%m-%d}, and there has been a newer one since {suite.since:%Y-%m-%d}"
        raise ReleaseRefused(suite.name, f"{text}; is the mirror stale?")
    return date


def _parse(suite: str, text: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    try:
        lines = text.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as e:
        raise ReleaseRefused(suite, "it is no text") from e
    key = ""
    grown: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith((" ", "\t")):
            grown.setdefault(key, []).append(line.strip())
        elif ":" in line:
            key, _, value = line.partition(":")
            if key in fields:
                raise ReleaseRefused(suite, f"it has the field {key[:40]!r} twice")
            fields[key] = value.strip()
    return fields | {key: "\n".join(more) for key, more in grown.items()}


def _date(suite: str, fields: dict[str, str], key: str) -> datetime | None:
    text = fields.get(key)
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text.replace("UTC", "+0000")).astimezone(UTC)
    except (ValueError, OverflowError) as e:
        raise ReleaseRefused(suite, f"{key} is no date: {text[:80]!r}") from e


def _indexes(suite: str, fields: dict[str, str]) -> dict[str, tuple[str, int]]:
    indexes: dict[str, tuple[str, int]] = {}
    for line in fields.get("SHA256", "").split("\n"):
        match = _INDEX_LINE.fullmatch(line)
        if line and match is None:
            raise ReleaseRefused(suite, f"a line of its SHA256 list cannot be read: {line[:80]!r}")
        if match is not None:
            promise = (match[1], int(match[2]))
            if indexes.setdefault(match[3], promise) != promise:
                raise ReleaseRefused(suite, f"it promises two things about {match[3][:80]!r}")
    return indexes


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
