"""The versions of Debian that a base can be made of, and who may sign for each.

A key of one version does not sign for another, nor the archive's for the security
archive: although Debian lets keys overlap for a while, we need only the own ones.

Sources: Debian's package debian-archive-keyring; ftp-master's list of signing keys;
the release files as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sanderling.image.interpreter import DEBIAN_12, DEBIAN_13, Interpreter

# What Debian calls the processors of our platforms.
ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm/v7": "armhf"}
_ALIKE = ("base-files", "ca-certificates", "libc6", "libgomp1", "libstdc++6", "media-types", "netbase", "tzdata")


@dataclass(frozen=True, slots=True)
class Suite:
    """One signed part of a version's archive.

    archive: which mirror has it, "main" or "security".
    keys: primary fingerprint -> file below ``keys/`` of each certificate that may sign.
    expires: whether its release files must say until when they are valid.
    since: no release file older than this is taken: it is from when this module was written.
    """

    name: str
    archive: str
    keys: Mapping[str, str] = field(hash=False)
    expires: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class DebianVersion:
    """A version of Debian: its name, its Python, and where its packages are."""

    number: int
    codename: str
    python: Interpreter
    suites: tuple[Suite, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The packages of the base; what they need comes with them."""
        version = self.python.version
        return (*_ALIKE, f"libpython{version}-stdlib", f"python{version}-minimal")


def _suites(
    codename: str, automatic: str, stable: str, security: str, since: tuple[datetime, datetime]
) -> tuple[Suite, ...]:
    archive_key = {automatic: f"{codename}-automatic.asc"}
    point_release, written = since
    return (
        # Only a point release, which has no end of validity, is signed with the key that is kept offline.
        # The updates have an end as long as there are some: not any more when a version is in long-term support.
        Suite(codename, "main", archive_key | {stable: f"{codename}-stable.asc"}, False, point_release),
        Suite(f"{codename}-updates", "main", archive_key, False, written),
        Suite(f"{codename}-security", "security", {security: f"{codename}-security-automatic.asc"}, True, written),
    )


BOOKWORM = DebianVersion(
    12,
    "bookworm",
    DEBIAN_12,
    _suites(
        "bookworm",
        "b8b80b5b623eab6ad8775c45b7c5d7d6350947f8",
        "4d64fec119c2029067d6e791f8d2585b8783d481",
        "05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0",
        (datetime(2026, 7, 11, tzinfo=UTC), datetime(2026, 7, 11, tzinfo=UTC)),
    ),
)
TRIXIE = DebianVersion(
    13,
    "trixie",
    DEBIAN_13,
    _suites(
        "trixie",
        "04b54c3cdca79751b16bc6b5225629df75b188bd",
        "41587f7db8c774bccf131416762f67a0b2c39de4",
        "5e04a1e3223a19a20706e20f9904613d4cce68c6",
        (datetime(2026, 9, 12, tzinfo=UTC), datetime(2026, 9, 12, tzinfo=UTC)),
    ),
)
VERSIONS = (BOOKWORM, TRIXIE)  # the default first
