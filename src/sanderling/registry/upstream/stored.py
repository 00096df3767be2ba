"""Where the rules come from: given at the start, or kept in SQL with their passwords sealed."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sanderling.errors import Conflict, NotFound
from sanderling.registry.tables import metadata
from sanderling.registry.upstream import tables
from sanderling.registry.upstream.rules import Upstream

# How late one server may see what another one changed.
REFRESH_S = 5.0


class UpstreamNotFound(NotFound):
    """No upstream has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no upstream {name[:100]!r}; `sanderling registry upstream list` shows those there are"
        )
        self.name = name


class UpstreamExists(Conflict):
    """An upstream has this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"upstream {name!r} exists already; remove it first, its content stays")
        self.name = name


class Upstreams(Protocol):
    """The rules in force."""

    def find_held(self) -> tuple[Upstream, ...] | None:
        """Return them without waiting, or None when they have to be read."""

    def all(self) -> tuple[Upstream, ...]:
        """Return them by name. Blocks."""


class FixedUpstreams:
    """Rules that were given at the start, as by a configuration file."""

    def __init__(self, upstreams: Iterable[Upstream] = ()) -> None:
        self._all = tuple(sorted(upstreams, key=lambda one: one.name))
        for one, following in pairwise(self._all):
            if one.name == following.name:
                raise UpstreamExists(one.name)

    def find_held(self) -> tuple[Upstream, ...] | None:
        """See `Upstreams.find_held`."""
        return self._all

    def all(self) -> tuple[Upstream, ...]:
        """See `Upstreams.all`."""
        return self._all


class StoredUpstreams:
    """Rules in SQL. A change counts at once here, within REFRESH_S at other servers."""

    def __init__(
        self,
        engine: Engine,
        seal: Callable[[bytes], bytes],
        unseal: Callable[[bytes], bytes],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._seal, self._unseal = engine, seal, unseal
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._held: tuple[Upstream, ...] | None = None
        self._held_until = 0.0
        metadata.create_all(engine)

    def find_held(self) -> tuple[Upstream, ...] | None:
        """See `Upstreams.find_held`."""
        return self._held if self._monotonic() < self._held_until else None

    def all(self) -> tuple[Upstream, ...]:
        """See `Upstreams.all`."""
        with self._lock:  # what was read before a change must not be held after it
            with self._engine.connect() as connection:
                rows = connection.execute(select(tables.upstreams).order_by(tables.upstreams.c.name)).all()
            self._held = tuple(self._upstream(row) for row in rows)
            self._held_until = self._monotonic() + REFRESH_S
            return self._held

    def get(self, name: str) -> Upstream:
        """Return the upstream; raise `UpstreamNotFound`."""
        for upstream in self.all():
            if upstream.name == name:
                return upstream
        raise UpstreamNotFound(name)

    def add(self, upstream: Upstream) -> Upstream:
        """Keep a new rule; raise `UpstreamExists`, `Invalid` for a CA that cannot be read."""
        upstream.tls_context()
        row = self._row(upstream) | {"created_at": self._clock()}
        try:
            with self._lock, self._engine.begin() as connection:
                connection.execute(insert(tables.upstreams).values(row))
        except IntegrityError:
            raise UpstreamExists(upstream.name) from None
        return self.get(upstream.name)

    def set_enabled(self, name: str, is_enabled: bool) -> Upstream:
        """Switch an upstream on or off; off, what is here is served. Raises `UpstreamNotFound`."""
        table = tables.upstreams
        with self._lock, self._engine.begin() as connection:
            changed = connection.execute(update(table).where(table.c.name == name).values(is_enabled=is_enabled))
        if changed.rowcount == 0:
            raise UpstreamNotFound(name)
        return self.get(name)

    def remove(self, name: str) -> None:
        """Forget the rule and its password; what was pulled through stays. Raises `UpstreamNotFound`."""
        table = tables.upstreams
        with self._lock, self._engine.begin() as connection:
            removed = connection.execute(delete(table).where(table.c.name == name))
        if removed.rowcount == 0:
            raise UpstreamNotFound(name)
        self.all()

    def _row(self, upstream: Upstream) -> dict[str, object]:
        return {
            "name": upstream.name,
            "registry": upstream.registry,
            "username": upstream.username,
            "password": self._seal(upstream.password.encode()) if upstream.password else b"",
            "ttl_s": upstream.ttl_s,
            "is_plain_http": upstream.is_plain_http,
            "ca_pem": upstream.ca_pem,
            "is_enabled": upstream.is_enabled,
            "is_mirror": upstream.is_mirror,
            "is_shared": upstream.is_shared,
            "allowed": json.dumps(upstream.only),
        }

    def _upstream(self, row: Any) -> Upstream:
        known = Upstream(
            name=row.name,
            registry=row.registry,
            ttl_s=row.ttl_s,
            is_plain_http=row.is_plain_http,
            ca_pem=row.ca_pem,
            is_enabled=row.is_enabled,
            is_mirror=row.is_mirror,
            is_shared=row.is_shared,
            only=tuple(json.loads(row.allowed)),
        )
        if not row.password:
            return known
        return replace(known, username=row.username, password=self._unseal(row.password).decode())
