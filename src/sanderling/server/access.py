"""Who may call the API, and what for.

- A token is 256 random bits; only its hash is stored, so a copy of the database lets nobody in.
- Two roles: the owner may do everything; a workspace's token works within that workspace alone.
- A sign-in code works once, within 15 minutes, and becomes a session of 12 hours with the
  rights of whoever made the code.
- The owner's token lies in a file that only the user of the server can read. When the file is
  gone, the next start makes a new token and the old one ends.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, insert, select

from sanderling.durable import write_durably
from sanderling.errors import Denied, Unavailable
from sanderling.server import tables

CODE_LIFE = timedelta(minutes=15)
SESSION_LIFE = timedelta(hours=12)
MAX_TOKEN_CHARS = 256

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller whose token was accepted. `workspace` None means every workspace: the owner's rights."""

    kind: str
    workspace: str | None
    expires_at: datetime | None
    # Names the token and does not give it away; `Access.recall` knows it as long as the token is good.
    mark: str = ""

    @property
    def is_owner(self) -> bool:
        return self.workspace is None

    def require_workspace(self, workspace: str) -> None:
        """Raise Denied unless this caller may work in *workspace*."""
        if self.workspace is not None and self.workspace != workspace:
            raise Denied(f"this token is for workspace '{self.workspace}' and not for '{workspace}'")

    def require_owner(self, what: str) -> None:
        """Raise Denied unless this caller is the owner; *what* completes "only the owner may ..."."""
        if not self.is_owner:
            raise Denied(f"only the owner of this server may {what}; use the owner's token")


@dataclass(frozen=True, slots=True)
class Granted:
    """A secret that is shown this once, and when it ends (None: when it is revoked)."""

    secret: str
    expires_at: datetime | None


class Unauthenticated(Denied):
    """No token, or one that is not, or no longer, known."""


class TooManyAttempts(Unavailable):
    """Too many sign-ins failed; the next one is looked at after `retry_after_s`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many failed sign-ins: try again in {retry_after_s} seconds")
        self.retry_after_s = retry_after_s


class Access:
    """The tokens, sign-in codes and sessions of one server."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        tables.metadata.create_all(engine)
        self._engine, self._clock = engine, clock

    def ensure_owner_token(self, file: Path) -> str:
        """Return the owner's token from *file*; make a new one, and end the old, when it is missing or unknown."""
        if file.exists():
            token = file.read_text().strip()
            try:
                if self.authenticate(token).kind == "owner":
                    return token
            except Unauthenticated:
                pass
        token = _new_token()
        with self._engine.begin() as connection:
            connection.execute(delete(tables.tokens).where(tables.tokens.c.kind == "owner"))
            connection.execute(insert(tables.tokens).values(self._row(token, "owner", None, None)))
        # A stop before this line leaves a file that is unknown: the next start comes here again.
        write_durably(file, token.encode() + b"\n", 0o600)
        return token

    def create_workspace_token(self, workspace: str) -> Granted:
        """Return a new token for *workspace* alone. It cannot be shown again."""
        token = _new_token()
        with self._engine.begin() as connection:
            connection.execute(insert(tables.tokens).values(self._row(token, "workspace", workspace, None)))
        return Granted(token, None)

    def authenticate(self, token: str) -> Caller:
        """Return who *token* belongs to; Unauthenticated when it is not known or has ended."""
        found = self.recall(_hash(token)) if 0 < len(token) <= MAX_TOKEN_CHARS else None
        if found is None:
            raise Unauthenticated("this token is not known here, or has ended: sign in again, or run 'sanderling init'")
        return found

    def recall(self, mark: str) -> Caller | None:
        """Return the caller with this mark as long as the token is good, or None.

        A mark is no secret and proves nothing: ask only for one that this server has signed itself.
        """
        query = select(tables.tokens).where(tables.tokens.c.hash == mark)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or (row.expires_at is not None and row.expires_at <= self._now()):
            return None
        return Caller(row.kind, row.workspace, _time(row.expires_at), mark)

    def create_sign_in_code(self, caller: Caller | None = None) -> Granted:
        """Return a code for one sign-in with the rights of *caller* (None: the owner)."""
        code = secrets.token_urlsafe(24)
        expires_at = self._now() + CODE_LIFE.total_seconds()
        workspace = None if caller is None else caller.workspace
        with self._engine.begin() as connection:
            self._forget_ended(connection)
            row = {"hash": _hash(code), "workspace": workspace, "expires_at": expires_at}
            connection.execute(insert(tables.sign_in_codes).values(row))
        return Granted(code, _time(expires_at))

    def sign_in(self, code: str) -> Granted:
        """Use up *code* and return a session's token; Unauthenticated when it was used, ended or never made."""
        codes, now = tables.sign_in_codes, self._now()
        token, expires_at = _new_token(), now + SESSION_LIFE.total_seconds()
        with self._engine.begin() as connection:
            row = None
            if 0 < len(code) <= MAX_TOKEN_CHARS:
                row = connection.execute(select(codes).where(codes.c.hash == _hash(code))).one_or_none()
            # Of two that come at once, the delete tells which one was first.
            if row is not None:
                used = connection.execute(delete(codes).where(codes.c.hash == row.hash))
                if used.rowcount == 1 and row.expires_at > now:
                    connection.execute(
                        insert(tables.tokens).values(self._row(token, "session", row.workspace, expires_at))
                    )
                    return Granted(token, _time(expires_at))
        raise Unauthenticated("this sign-in code was used already or has ended: make a new link with 'sanderling open'")

    def revoke(self, token: str) -> None:
        """End *token*; one that is not known is ended already."""
        with self._engine.begin() as connection:
            connection.execute(delete(tables.tokens).where(tables.tokens.c.hash == _hash(token)))

    def _forget_ended(self, connection: Connection) -> None:
        now = self._now()
        for table in (tables.tokens, tables.sign_in_codes):
            connection.execute(delete(table).where(table.c.expires_at <= now))

    def _row(self, token: str, kind: str, workspace: str | None, expires_at: float | None) -> dict[str, object]:
        return {
            "hash": _hash(token),
            "kind": kind,
            "workspace": workspace,
            "created_at": self._now(),
            "expires_at": expires_at,
        }

    def _now(self) -> float:
        return self._clock().timestamp()


class AttemptLimit:
    """Slows guessing: after *attempts* failures within *window_s*, an address waits until the window has passed.

    Kept in memory and bounded: codes have 192 random bits, so this keeps load and logs small, it is not what
    keeps a guesser out. When *addresses* are known, the one that failed longest ago is forgotten.
    """

    def __init__(self, clock: Clock, attempts: int = 10, window_s: int = 60, addresses: int = 10_000) -> None:
        self._clock, self._attempts, self._window_s, self._addresses = clock, attempts, window_s, addresses
        self._failures: dict[str, list[float]] = {}

    def check(self, address: str) -> None:
        """Raise TooManyAttempts while *address* has to wait."""
        now = self._clock().timestamp()
        recent = [at for at in self._failures.get(address, []) if at > now - self._window_s]
        if len(recent) >= self._attempts:
            raise TooManyAttempts(max(1, round(recent[0] + self._window_s - now)))

    def failed(self, address: str) -> None:
        """Note a failure of *address*."""
        failures = self._failures.pop(address, [])
        self._failures[address] = [*failures, self._clock().timestamp()][-self._attempts :]
        while len(self._failures) > self._addresses:
            del self._failures[next(iter(self._failures))]


def _new_token() -> str:
    return f"sdl_{secrets.token_urlsafe(32)}"


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
