"""Named tokens of a workspace: a password for some repositories and actions, as long as one likes. SQL.

- The user name is `<workspace>.<token>`. A workspace's name has no dot, so that no
  two tokens, and no token and admin user, share one; Docker and IoT Edge take it.
- The password is shown once; what is kept is its hash.
- A token that was made for a device lives as long as that device.
"""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import Engine, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from sanderling.errors import Conflict, Invalid
from sanderling.registry import tables
from sanderling.registry.access.rights import Scope
from sanderling.registry.access.secrets import hash_password, new_password
from sanderling.registry.errors import TokenExists, TokenNotFound

MAX_TOKENS = 10_000  # of a workspace
MAX_SCOPES = 100
MAX_DESCRIPTION = 1000
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_NOTE_USE_AFTER_S = 60.0

_TABLE = tables.tokens.c
# Built once: every request that rests on a token asks it.
_FIND = select(tables.tokens).where(_TABLE.workspace == bindparam("workspace"), _TABLE.name == bindparam("name"))


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A token, without its password. Times are seconds of the epoch; *device* is empty for nobody's."""

    workspace: str
    name: str
    description: str
    scopes: tuple[Scope, ...]
    is_enabled: bool
    created_at: float
    expires_at: float | None
    used_at: float | None
    device: str
    device_generation: str
    hash: str = field(repr=False)

    @property
    def username(self) -> str:
        """What is given to `docker login`."""
        return f"{self.workspace}.{self.name}"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token with its password, which cannot be shown again."""

    token: NamedToken
    password: str = field(repr=False)


class NamedTokens:
    """All named tokens. Methods block. *key* is for the hashes."""

    def __init__(self, engine: Engine, key: bytes, clock: Callable[[], float]) -> None:
        self._engine, self._key, self._clock = engine, key, clock

    def create(
        self,
        workspace: str,
        name: str,
        scopes: Iterable[Scope],
        *,
        expires_at: float | None = None,
        description: str = "",
        device: tuple[str, str] = ("", ""),
    ) -> IssuedToken:
        """Make a token; raise `Invalid` or `TokenExists`. *device* is an id and its generation."""
        scopes = _checked(workspace, scopes)
        now = self._clock()
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name[:100]!r} is no token's name: 1 to 64 lower-case letters, digits and inner dashes")
        if len(description) > MAX_DESCRIPTION or "\0" in description:
            raise Invalid(f"a token's description has at most {MAX_DESCRIPTION} characters")
        if expires_at is not None and not now < expires_at < now + 1e10:
            raise Invalid("a token's expiry lies in the future; leave it out for a token that ends when it is deleted")
        password = new_password()
        row = {
            "workspace": workspace,
            "name": name,
            "description": description,
            "scopes": json.dumps([[scope.repositories, sorted(scope.actions)] for scope in scopes]),
            "enabled": True,
            "hash": hash_password(self._key, password),
            "created_at": now,
            "expires_at": expires_at,
            "used_at": None,
            "device": device[0],
            "device_generation": device[1],
        }
        try:
            with self._engine.begin() as connection:
                count = select(func.count()).where(_TABLE.workspace == workspace)
                if connection.execute(count).scalar_one() >= MAX_TOKENS:
                    raise Conflict(f"workspace {workspace} has {MAX_TOKENS} registry tokens; delete one first")
                connection.execute(insert(tables.tokens).values(row))
        except IntegrityError:
            raise TokenExists(workspace, name) from None
        return IssuedToken(self.get(workspace, name), password)

    def of(self, workspace: str) -> list[NamedToken]:
        """Return the tokens of *workspace* by name."""
        query = select(tables.tokens).where(_TABLE.workspace == workspace).order_by(_TABLE.name)
        with self._engine.connect() as connection:
            return [_token(row) for row in connection.execute(query)]

    def find(self, workspace: str, name: str) -> NamedToken | None:
        """Return the token, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(_FIND, {"workspace": workspace, "name": name}).one_or_none()
        return None if row is None else _token(row)

    def get(self, workspace: str, name: str) -> NamedToken:
        """Return the token; raise `TokenNotFound`."""
        found = self.find(workspace, name)
        if found is None:
            raise TokenNotFound(workspace, name)
        return found

    def set_enabled(self, workspace: str, name: str, enabled: bool) -> NamedToken:
        """Switch the token on or off; raise `TokenNotFound`."""
        return self._update(workspace, name, enabled=enabled)

    def regenerate(self, workspace: str, name: str) -> IssuedToken:
        """Give the token another password; the one before is refused from now on. Raise `TokenNotFound`."""
        password = new_password()
        return IssuedToken(self._update(workspace, name, hash=hash_password(self._key, password)), password)

    def delete(self, workspace: str, name: str) -> None:
        """Delete the token; raise `TokenNotFound`."""
        with self._engine.begin() as connection:
            gone = connection.execute(delete(tables.tokens).where(_TABLE.workspace == workspace, _TABLE.name == name))
        if not gone.rowcount:
            raise TokenNotFound(workspace, name)

    def delete_of_device(self, device: str) -> None:
        """Delete what was made for a device that is deleted."""
        if device:
            with self._engine.begin() as connection:
                connection.execute(delete(tables.tokens).where(_TABLE.device == device))

    def note_use(self, token: NamedToken) -> None:
        """Remember that *token* was used now, to the minute; when the database is busy, the next time."""
        now = self._clock()
        if token.used_at is None or now - token.used_at >= _NOTE_USE_AFTER_S:
            with suppress(OperationalError), self._engine.begin() as connection:
                connection.execute(
                    update(tables.tokens)
                    .where(_TABLE.workspace == token.workspace, _TABLE.name == token.name)
                    .values(used_at=now)
                )

    def _update(self, workspace: str, name: str, **values: object) -> NamedToken:
        with self._engine.begin() as connection:
            connection.execute(
                update(tables.tokens).where(_TABLE.workspace == workspace, _TABLE.name == name).values(values)
            )
        return self.get(workspace, name)


def _checked(workspace: str, scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """Return *scopes*, each once, when all lie within *workspace*; raise `Invalid`."""
    found: dict[str, Scope] = {}
    for given in scopes:
        scope = Scope.of(given.repositories, *given.actions)
        if not scope.repositories.startswith(f"{workspace}/"):
            raise Invalid(
                f"{scope.repositories!r} is not in workspace {workspace}: "
                f"give {workspace}/NAME, {workspace}/FOLDER/* or {workspace}/*"
            )
        before = found.get(scope.repositories)
        found[scope.repositories] = (
            scope if before is None else Scope.of(scope.repositories, *(scope.actions | before.actions))
        )
    if not 0 < len(found) <= MAX_SCOPES:
        raise Invalid(f"a token is for 1 to {MAX_SCOPES} repositories; {workspace}/* is all of the workspace")
    return tuple(found.values())


def _token(row: Row) -> NamedToken:  # type: ignore[type-arg]
    return NamedToken(
        workspace=row.workspace,
        name=row.name,
        description=row.description,
        scopes=tuple(Scope(pattern, frozenset(actions)) for pattern, actions in json.loads(row.scopes)),
        is_enabled=row.enabled,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        device=row.device,
        device_generation=row.device_generation,
        hash=row.hash,
    )
