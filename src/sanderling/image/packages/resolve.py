"""Choose versions: from requirements to wheels with URL and sha256, by uv.

- For a platform and a Python that need not be this machine's; wheels only, so nothing is built or run.
- A choice is kept for a day under what it was made from, so that a rebuild is quick and equal;
  when no index answers, an older choice serves and the log says so.
- A version that was withdrawn ("yanked") is taken only when it is pinned, and with a warning.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import parse_wheel_filename

from sanderling.durable import write_durably
from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.image.environment.environment import Environment, LocalWheel
from sanderling.image.events import Log
from sanderling.image.interpreter import Interpreter
from sanderling.image.keep import read_json
from sanderling.image.packages.index_page import Offer, find_offer, find_page
from sanderling.image.packages.lock import Wheel, parse_lock
from sanderling.image.packages.tags import MACHINES, rank
from sanderling.image.packages.uv_errors import NoWheels, ResolutionFailed, explain, no_wheels
from sanderling.image.packages.uv_run import Answer, ask_uv
from sanderling.image.packages.wheel_sources import ANY, WheelSources
from sanderling.oci import Platform

__all__ = ["PLATFORMS", "Resolver", "Wheel", "logins", "parse_lock"]

LOCK_VERSION = 2
LOCK_MAX_AGE = timedelta(hours=24)
PLATFORMS = MACHINES
MAX_WHEELLESS = 20
MAX_PAGES = 40  # of an index, read for one error
_MOST_WHEELS = Platform("linux", "amd64")
_INDEX_VARIABLES = ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS")


@dataclass(frozen=True, slots=True)
class _Choice:
    made_at: datetime
    wheels: list[Wheel]
    warnings: list[str]


class Resolver:
    """Resolves with uv; choices are kept below *cache*."""

    def __init__(self, cache: Path, log: Log, sources: WheelSources = ANY) -> None:
        self._sources = sources
        self._folder = cache / "locks"
        self._uv_cache = cache / "uv"
        self._log = log

    def resolve(self, environment: Environment, platform: Platform, python: Interpreter) -> list[Wheel]:
        """The wheels for *environment* on *platform* and its *python*, sorted by name.

        Raises Invalid (ResolutionFailed, WrongHash) naming the package and the way out, Denied
        when an index wants a password, or Unavailable when none answers.
        """
        if str(platform) not in MACHINES:
            raise Invalid(f"images for {platform} cannot be built; possible are {', '.join(MACHINES)}")
        if not environment.requirements:
            return []
        environment = replace(environment, options=self._sources.options(environment.options))
        hashes = {wheel.file_name: _check(wheel, platform, python) for wheel in environment.wheels}
        path = self._folder / f"{_key(environment, platform, python, hashes)}{self._sources.key}.json"
        kept = _read(path)
        now = datetime.now(UTC)
        if kept is not None and (self._sources.is_offline or timedelta(0) <= now - kept.made_at < LOCK_MAX_AGE):
            self._log.say("resolve", f"{len(kept.wheels)} packages, as chosen at {kept.made_at:%Y-%m-%d %H:%M} UTC")
            return self._told(kept, environment, hashes)
        self._log.say("resolve", f"choosing versions for {platform}: {', '.join(environment.requirements)}")
        try:
            choice = self._choose(environment, platform, python, now)
        except Unavailable as e:
            if kept is None:
                raise
            self._log.warn("resolve", f"{e.message}. The versions chosen at {kept.made_at:%Y-%m-%d %H:%M} UTC are used")
            return self._told(kept, environment, hashes)
        write_durably(path, json.dumps(_to_json(choice), indent=1).encode())
        self._log.say("resolve", ", ".join(f"{wheel.name} {wheel.version}" for wheel in choice.wheels))
        return self._told(choice, environment, hashes)

    def _told(self, choice: _Choice, environment: Environment, hashes: Mapping[str, str]) -> list[Wheel]:
        """The wheels of *choice*, local ones at their places of today; its warnings go to the log."""
        for warning in choice.warnings:
            self._log.warn("resolve", warning)
        local = {wheel.file_name: wheel for wheel in environment.wheels}
        return [
            replace(
                wheel,
                url=wheel.file_name,  # where it is says nothing about the image
                source=local[wheel.file_name].source,
                sha256=hashes[wheel.file_name],
                size_bytes=local[wheel.file_name].source.stat().st_size,
            )
            if wheel.file_name in local
            else wheel
            for wheel in choice.wheels
        ]

    def _choose(self, environment: Environment, platform: Platform, python: Interpreter, now: datetime) -> _Choice:
        answer = ask_uv(environment, platform, python, self._uv_cache, self._sources)
        if answer.lock is None:
            raise self._failure(answer, environment, platform, python)
        warnings = [
            f"{name} {version} was withdrawn from its index (yanked){reason}; it is used because it is pinned"
            for name, version, reason in _yanked(answer.said)
        ]
        hashes = dict(environment.hashes)
        lock_path = answer.folder / "pylock.toml"
        wheels = parse_lock(answer.lock, lock_path, platform, python, hashes, environment.needs_hashes)
        return _Choice(now, [_without_folder(wheel, answer.folder) for wheel in wheels], warnings)

    def _failure(
        self, answer: Answer, environment: Environment, platform: Platform, python: Interpreter
    ) -> SanderlingError:
        """The error for uv's *answer*; for packages without wheels, with all of them and what there is instead."""
        said = answer.said.replace(f"{answer.folder.as_uri()}/", "").replace(f"{answer.folder}/", "")
        if (of_the_sources := self._sources.explain(said)) is not None:
            return of_the_sources
        error = explain(said, platform, python, environment)
        if not isinstance(error, NoWheels):
            return error
        if self._sources.is_offline:
            return no_wheels(list(error.packages), {}, "", platform, python, environment)
        asked, names = self._ask_for_more(error.packages, environment, platform, python)
        known = logins(environment)
        pages = {name: find_page(answer.said, name) for name, answer in zip(names, asked, strict=False)}
        found = {name: find_offer(page, known, platform, python) for name, page in pages.items() if page is not None}
        offers = {name: offer for name, offer in found.items() if offer is not None}
        offers |= self._elsewhere(offers.keys(), environment, platform, python)
        names += [name for name in offers if name not in names]
        hint = " ".join(said.partition("hint: ")[2].split())
        return no_wheels(names, offers, hint, platform, python, environment)

    def _ask_for_more(
        self, first: Sequence[str], environment: Environment, platform: Platform, python: Interpreter
    ) -> tuple[list[Answer], list[str]]:
        """The packages without a wheel that uv comes to one after another, and what it said at each of them."""
        names = list(first)
        # Once more to see where uv looks for it, and then as if those were not needed, to find the next.
        asked = [ask_uv(environment, platform, python, self._uv_cache, self._sources, verbose=True)]
        while len(names) < MAX_WHEELLESS:
            asked.append(
                ask_uv(environment, platform, python, self._uv_cache, self._sources, without=names, verbose=True)
            )
            more = explain(asked[-1].said, platform, python, environment) if asked[-1].lock is None else None
            if not isinstance(more, NoWheels) or more.packages[0] in names:
                break
            names.append(more.packages[0])
        return asked, names

    def _elsewhere(
        self, known: Collection[str], environment: Environment, platform: Platform, python: Interpreter
    ) -> dict[str, Offer]:
        """What there is of packages other than *known* that have no wheel for *platform*, as far as can be told.

        uv does not learn what a package needs that has no wheel. So it is asked for the
        platform that most wheels are made for.
        """
        if platform == _MOST_WHEELS:
            return {}
        answer = ask_uv(environment, _MOST_WHEELS, python, self._uv_cache, self._sources, verbose=True)
        if answer.lock is None:
            return {}
        try:
            wheels = parse_lock(answer.lock, answer.folder / "pylock.toml", _MOST_WHEELS, python)
        except Invalid:
            return {}
        offers: dict[str, Offer] = {}
        others = [w for w in wheels if w.name not in known and rank(w.file_name, platform, python) is None]
        for wheel in others[:MAX_PAGES]:
            page = find_page(answer.said, wheel.name)
            offer = find_offer(page, logins(environment), platform, python) if page is not None else None
            if offer is not None and not offer.fitting and len(known) + len(offers) < MAX_WHEELLESS:
                offers[wheel.name] = offer
        return offers


def _check(wheel: LocalWheel, platform: Platform, python: Interpreter) -> str:
    """The sha256 of a local wheel. Raises ResolutionFailed when it does not run on the image."""
    if rank(wheel.file_name, platform, python) is None:
        name = parse_wheel_filename(wheel.file_name)[0]
        raise ResolutionFailed(
            f"the wheel '{wheel.path}' is not for {platform} with Python {python.version} and glibc "
            f"{python.glibc[0]}.{python.glibc[1]}; build it for these, or build the image for its platform alone",
            package=name,
        )
    try:
        with wheel.source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise Invalid(f"the wheel '{wheel.path}' cannot be read: {e.strerror}") from e


def _key(environment: Environment, platform: Platform, python: Interpreter, local: Mapping[str, str]) -> str:
    variables = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    made_from = [
        *(environment.requirements, environment.options, environment.constraints),
        *(environment.hashes, environment.needs_hashes, sorted(local.items())),
        *([str(platform), python.version, python.glibc], variables),
    ]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _to_json(choice: _Choice) -> dict[str, object]:
    wheels = [asdict(replace(wheel, source=None)) for wheel in choice.wheels]
    made_at = choice.made_at.isoformat()
    return {"version": LOCK_VERSION, "made_at": made_at, "wheels": wheels, "warnings": choice.warnings}


def _read(path: Path) -> _Choice | None:
    data = read_json(path)
    if data is None or data.get("version") != LOCK_VERSION:
        return None
    try:
        wheels = [Wheel(**wheel) for wheel in data["wheels"]]
        return _Choice(datetime.fromisoformat(data["made_at"]), wheels, [str(text) for text in data["warnings"]])
    except (KeyError, TypeError, ValueError):
        return None


def _without_folder(wheel: Wheel, folder: Path) -> Wheel:
    """A local wheel is known by its name; the folder that uv saw it in is gone."""
    return replace(wheel, url=wheel.file_name) if wheel.url.startswith(f"{folder.as_uri()}/") else wheel


def _yanked(said: str) -> list[tuple[str, str, str]]:
    found = re.findall(r'(?m)^warning: `(\S+?)==(\S+?)` is yanked(?: \(reason: "(.*)"\))?', said)
    return [(name, version, f": {' '.join(reason.split())[:200]}" if reason else "") for name, version, reason in found]


def logins(environment: Environment) -> dict[str, tuple[str, str]]:
    """User and password by host, from the URLs of indexes in uv's variables and in *environment*.

    For an index with a name (``UV_INDEX="mine=https://..."``) they may be in UV_INDEX_MINE_USERNAME
    and UV_INDEX_MINE_PASSWORD, as uv has it.
    """
    texts = [*(os.environ.get(name, "") for name in _INDEX_VARIABLES), *environment.options]
    found: dict[str, tuple[str, str]] = {}
    for match in re.finditer(r"(?:\b([A-Za-z0-9][\w.-]*)=)?(https?://[^\s]+)", " ".join(texts)):
        parts = urlsplit(match[2])
        host = parts.netloc.rpartition("@")[2]
        prefix = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", (match[1] or "").upper())
        password = os.environ.get(f"{prefix}_PASSWORD")
        if parts.username is not None:
            found[host] = (unquote(parts.username), unquote(parts.password or ""))
        elif match[1] and password is not None:
            found[host] = (os.environ.get(f"{prefix}_USERNAME", ""), password)
    return found
