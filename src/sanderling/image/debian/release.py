"""Trust in a Debian archive: signed release files and what they promise.

- Only the text that a certificate of ours signed is parsed; the rest of the file does not exist.
- The main archive and the security archive have keys of their own; one cannot sign for the other.
- A file past its Valid-Until, or older than one seen before, is refused: somebody may be holding back updates.

Source: Debian's repository format, "Release" files; deb822.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.resources import files

from pysequoia import Cert, verify

from sanderling.errors import Invalid

# Primary key fingerprints, and the certificate that ships beside this module.
ARCHIVE_KEYS = {
    "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8": "bookworm-automatic.asc",
    "4d64fec119c2029067d6e791f8d2585b8783d481": "bookworm-stable.asc",
}
SECURITY_KEYS = {"05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0": "bookworm-security-automatic.asc"}


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


def certificates(security: bool) -> list[Cert]:
    """The certificates that may sign for the archive, or for the security archive."""
    keys = SECURITY_KEYS if security else ARCHIVE_KEYS
    found = []
    for fingerprint, name in keys.items():
        cert = Cert.from_bytes(files(__package__).joinpath("keys", name).read_bytes())
        if cert.fingerprint != fingerprint:
            raise ReleaseRefused("bookworm", f"the shipped certificate {name} is not the one that was pinned")
        found.append(cert)
    return found


def verify_release(
    raw: bytes, *, suite: str, certs: list[Cert], now: datetime, not_before: datetime | None = None
) -> Release:
    """Return what the InRelease file *raw* promises for *suite*.

    Raises ReleaseRefused unless one of *certs* signed it, it is for *suite*, it
    has not expired at *now*, and it is not older than *not_before*.
    """
    try:
        verified = verify(bytes=raw, store=lambda _ids: certs)
    except Exception as e:
        raise ReleaseRefused(suite, f"no good signature of Debian's keys ({_first_line(e)})") from e
    allowed = {cert.fingerprint for cert in certs}
    if verified.bytes is None or not any(signature.certificate in allowed for signature in verified.valid_sigs):
        raise ReleaseRefused(suite, "no good signature of Debian's keys")
    fields = _parse(suite, verified.bytes)
    if fields.get("Codename") != suite:
        raise ReleaseRefused(suite, f"it is for {fields.get('Codename')!r}; is the mirror's address right?")
    date = _date(suite, fields, "Date")
    if date is None:
        raise ReleaseRefused(suite, "it has no date")
    until = _date(suite, fields, "Valid-Until")
    if until is not None and until < now:
        raise ReleaseRefused(
            suite, f"it expired at {until:%Y-%m-%d %H:%M} UTC; is the mirror stale, or the clock wrong?"
        )
    if not_before is not None and date < not_before:
        raise ReleaseRefused(suite, f"it is of {date:%Y-%m-%d}, older than one seen before of {not_before:%Y-%m-%d}")
    return Release(suite, date, _indexes(suite, fields), fields.get("Acquire-By-Hash") == "yes")


def _parse(suite: str, text: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    key = ""
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise ReleaseRefused(suite, "it is no text") from e
    grown: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith((" ", "\t")):
            grown.setdefault(key, []).append(line.strip())
        elif ":" in line:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields | {key: "\n".join(more) for key, more in grown.items()}


def _date(suite: str, fields: dict[str, str], key: str) -> datetime | None:
    text = fields.get(key)
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text.replace("UTC", "+0000")).astimezone(UTC)
    except ValueError as e:
        raise ReleaseRefused(suite, f"{key} is no date: {text!r}") from e


def _indexes(suite: str, fields: dict[str, str]) -> dict[str, tuple[str, int]]:
    indexes = {}
    for line in fields.get("SHA256", "").splitlines():
        parts = line.split()
        if len(parts) != 3 or len(parts[0]) != 64 or not parts[1].isdigit():
            raise ReleaseRefused(suite, f"a line of its SHA256 list cannot be read: {line[:80]!r}")
        indexes[parts[2]] = (parts[0], int(parts[1]))
    return indexes


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
