"""Choose conda packages for the platforms of an image; keep the choice.

- Solved for the platform of the image: its virtual packages are the base's (glibc) and not this machine's.
- Priority of channels is strict: the first channel that has a package is the only one for it.
- A choice is kept for a day under what it was made from; when no channel answers, an older choice
  serves and the log says so; without one, the indexes of earlier builds, kept below CACHE/conda/repodata.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sanderling.errors import SanderlingError, Unavailable
from sanderling.image.conda.choose import choose
from sanderling.image.conda.lock import CondaLock, CondaPackage
from sanderling.image.conda.solve_errors import CondaUnsolvable
from sanderling.image.conda.wish import Wish, read_wish
from sanderling.image.environment.conda_part import CondaPart
from sanderling.image.events import Log
from sanderling.image.figures import count_text
from sanderling.image.packages.wheel_sources import NotOnThisMachine
from sanderling.oci import Platform

LOCK_MAX_AGE = timedelta(hours=24)
OLDEST_PYTHON = (3, 9)


class CondaSolver:
    """Solves; locks and indexes are kept below *cache*/conda. When it *is_offline*, these are all that is asked."""

    def __init__(self, cache: Path, log: Log, *, is_offline: bool = False) -> None:
        self._locks = cache / "conda" / "locks"
        self._repodata = cache / "conda" / "repodata"
        self._log, self._is_offline = log, is_offline

    def solve(
        self, part: CondaPart, platforms: Iterable[Platform], glibc: tuple[int, int]
    ) -> dict[Platform, CondaLock]:
        """The packages for each of *platforms*, with one minor version of Python for all.

        Raises CondaUnsolvable, ChannelInvalid, Denied, or Unavailable when a
        channel does not answer or may not be asked.
        """
        wanted = list(platforms)
        locks = {platform: self._solve(read_wish(part, platform, glibc)) for platform in wanted}
        lowest = min((lock.python.minor for lock in locks.values()), key=_numbers)
        if any(lock.python.minor != lowest for lock in locks.values()):
            self._log.say("conda", f"not all platforms have a newer Python than {lowest}: it is used for all")
            same = CondaPart(part.channels, (*part.specs, f"python {lowest}.*"))
            locks = {platform: self._solve(read_wish(same, platform, glibc)) for platform in wanted}
        if _numbers(lowest) < OLDEST_PYTHON:
            oldest = ".".join(map(str, OLDEST_PYTHON))
            raise CondaUnsolvable(
                f"python={lowest} is too old for the scoring server; the oldest that it runs on is {oldest}",
                package="python",
            )
        return locks

    def _solve(self, wish: Wish) -> CondaLock:
        path = self._locks / f"{wish.key()}.json"
        kept = CondaLock.read(path)
        now = datetime.now(UTC)
        if kept is not None and (self._is_offline or timedelta(0) <= now - kept.made_at < LOCK_MAX_AGE):
            self._log.say("conda", f"{len(kept.packages)} packages, as chosen at {kept.made_at:%Y-%m-%d %H:%M} UTC")
            return kept
        where = ", ".join(channel.url for channel in wish.channels)
        self._log.say("conda", f"choosing packages for {wish.subdir} from {where}: {', '.join(wish.specs)}")
        try:
            if self._is_offline:
                raise NotOnThisMachine("the index of the conda channels", where)
            packages = asyncio.run(choose(wish, self._repodata))
        except Unavailable as e:
            if kept is not None:
                made_at = f"{kept.made_at:%Y-%m-%d %H:%M} UTC"
                self._log.warn("conda", f"{e.message}. The packages chosen at {made_at} are used")
                return kept
            packages = self._choose_from_cache(wish, e)
        lock = CondaLock(wish.platform, now, packages)
        lock.write(path)
        chosen = ", ".join(f"{package.name} {package.version}" for package in packages)
        self._log.say("conda", f"{count_text(len(packages), 'package')}: {chosen}")
        return lock

    def _choose_from_cache(self, wish: Wish, error: Unavailable) -> tuple[CondaPackage, ...]:
        """The packages by the indexes of earlier builds. Raises *error* when these will not do."""
        try:
            packages = asyncio.run(choose(wish, self._repodata, cached_only=True))
        except SanderlingError:
            raise error from None
        self._log.warn("conda", f"{error.message}. The indexes that were fetched for earlier builds are used")
        return packages


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
