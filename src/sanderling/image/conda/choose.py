"""Ask py-rattler for the packages that a wish needs: the one place that knows its solver.

The library is large (80 MB) and is imported when it is needed. Nothing of a
package is fetched here, only the indexes of channels.
"""

import asyncio
import difflib
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.errors import Invalid, Unavailable
from sanderling.image.conda.channels import Channel, logins, with_token
from sanderling.image.conda.lock import CondaPackage
from sanderling.image.conda.solve_errors import CondaUnsolvable, explain_conflict, explain_repodata
from sanderling.image.conda.wish import Wish

if TYPE_CHECKING:
    from rattler import Client, GenericVirtualPackage, MatchSpec, RepoDataRecord

MAX_VERSIONS = 8
RETRIES = 3
SOLVE_TIMEOUT_S = 120
TIMEOUT_S = 600
# What a device's kernel may be; packages that ask for a newer one are not chosen.
KERNEL = "5.10"


async def choose(wish: Wish, cache: Path, *, cached_only: bool = False) -> tuple[CondaPackage, ...]:
    """The packages that *wish* needs, sorted by name; indexes are kept below *cache*.

    With *cached_only* no channel is asked: the indexes are those that were fetched earlier.

    Raises CondaUnsolvable, Denied, Invalid for a specification that is none, or
    Unavailable when a channel does not answer.
    """
    from rattler import solve
    from rattler.exceptions import FetchRepoDataError, GatewayError, SolverError

    specs = [_spec(text) for text in wish.specs]
    asked = _Asked(wish, cache, cached_only)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await asked.check_names(specs)
            records = await solve(
                sources=asked.sources,
                specs=specs,
                gateway=asked.gateway,
                platforms=[wish.subdir, "noarch"],  # type: ignore[list-item]  # a str, one of theirs
                virtual_packages=_virtual(wish),
                timeout=timedelta(seconds=SOLVE_TIMEOUT_S),
                channel_relations="disabled",
            )
    except TimeoutError as e:
        raise Unavailable(f"no choice of conda packages after {TIMEOUT_S} s; pin more of them") from e
    except SolverError as e:
        await asked.check_versions(specs)
        raise explain_conflict(str(e), wish) from e
    except (GatewayError, FetchRepoDataError, OSError) as e:
        raise explain_repodata(e, wish) from e
    packages = sorted((_package(record, wish) for record in records), key=lambda package: package.name)
    return tuple(packages)


class _Asked:
    """The channels of a wish in rattler's types."""

    def __init__(self, wish: Wish, cache: Path, cached_only: bool) -> None:
        from rattler import Channel as RattlerChannel
        from rattler import Gateway, SourceConfig

        self._wish = wish
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        how = SourceConfig(cache_action="force-cache-only" if cached_only else "cache-or-fetch")
        self.gateway = Gateway(cache_dir=cache, default_config=how, client=_client(wish.channels))
        self.sources = [RattlerChannel(channel.url) for channel in wish.channels]

    async def check_names(self, specs: Sequence["MatchSpec"]) -> None:
        """Raise CondaUnsolvable for the first wanted package that no channel has, with names that are like it."""
        known = await self._names(self._wish.subdir)
        for spec in specs:
            matcher = spec.name
            name = matcher.normalized if matcher is not None else None
            if name is None or name in known:
                continue
            others = [subdir for subdir in ("linux-64", "linux-aarch64") if subdir != self._wish.subdir]
            elsewhere = [subdir for subdir in others if name in await self._names(subdir)]
            raise CondaUnsolvable.missing(name, self._wish, difflib.get_close_matches(name, known, 3, 0.75), elsewhere)

    async def check_versions(self, specs: Sequence["MatchSpec"]) -> None:
        """Raise CondaUnsolvable for the first specification that no package fits, with the versions that there are."""
        for spec, text in zip(specs, self._wish.specs, strict=True):
            found = await self.gateway.query(
                self.sources,
                [self._wish.subdir, "noarch"],  # type: ignore[list-item]
                [spec.name.normalized],
                recursive=False,
                channel_relations="disabled",
            )
            records = [record for of_source in found for record in of_source]
            if not any(spec.matches(record) for record in records):
                newest = sorted({record.version for record in records}, reverse=True)[:MAX_VERSIONS]
                raise CondaUnsolvable.no_version(spec.name.normalized, text, self._wish, [str(v) for v in newest])

    async def _names(self, subdir: str) -> set[str]:
        names = await self.gateway.names(self.sources, [subdir, "noarch"], channel_relations="disabled")  # type: ignore[list-item]
        return {name.normalized for name in names}


def _client(channels: Sequence[Channel]) -> "Client":
    """rattler's usual client, which also shows each host the user and password that its channel came with."""
    from rattler.networking import (
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        Client,
        MirrorMiddleware,
        RetryMiddleware,
    )

    by_host = {host.partition(":")[0]: login for host, login in logins(channels).items()}

    def headers(host: str, path: str) -> dict[str, str] | None:
        login = by_host.get(host)
        return {"Authorization": "Basic " + b64encode(":".join(login).encode()).decode()} if login else None

    # As a mirror, the URL with the token is asked, and the one without it is what is kept beside an index.
    tokens = {f"{channel.url}/": [with_token(f"{channel.url}/", [channel])] for channel in channels if channel.token}
    return Client(
        [
            MirrorMiddleware(tokens),
            AddHeadersMiddleware(headers),
            RetryMiddleware(RETRIES),
            AuthenticationMiddleware(),
        ]
    )


def _virtual(wish: Wish) -> list["GenericVirtualPackage"]:
    """What the target has by itself. No __archspec: the processors of a fleet differ."""
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package import BuildString

    versions = {"__unix": "0", "__linux": KERNEL, "__glibc": ".".join(map(str, wish.glibc))}
    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in versions.items()
    ]


def _spec(text: str) -> "MatchSpec":
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(text)
    except InvalidMatchSpecError as e:
        raise Invalid(f"'{text}' is no conda specification ({e}); write name, name=1.2 or name >=1.2,<2") from e


def _package(record: "RepoDataRecord", wish: Wish) -> CondaPackage:
    name, file_name = record.name.normalized, record.file_name
    if record.sha256 is None:
        raise Invalid(
            f"the conda package {file_name}: its channel's index has no sha256 for it; index the channel anew"
        )
    channel = next((channel for channel in wish.channels if channel.owns(record.url)), None)
    if channel is None:
        raise Invalid(f"the conda package {file_name} is said to be outside of its channel")
    subdir = record.subdir
    needs = any(depend.split()[0] in ("python", "python_abi") for depend in record.depends if depend.strip())
    return CondaPackage(
        name=name,
        version=str(record.version),
        build=str(record.build),
        subdir=subdir,
        url=f"{channel.url}/{subdir}/{file_name}",
        sha256=record.sha256.hex(),
        size_bytes=record.size,
        channel=channel.url,
        is_noarch_python=record.noarch.python,
        needs_python=needs or name == "python" or record.noarch.python,
        site=record.python_site_packages_path if name == "python" else None,
    )
