"""Whom the registry knows: admin users of workspaces, and holders of tokens.

- An admin user is off until switched on, and has two passwords, so that one can
  be changed while the other is in use. They are shown to the owner, therefore
  sealed at rest, not hashed.
- A token that was got with a password ends with that password.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy import Engine, select, update

from sanderling.errors import Invalid
from sanderling.oci import is_repository
from sanderling.registry import tables
from sanderling.registry.access.rights import AdminProof, Principal, Scope
from sanderling.registry.access.throttle import Throttle
from sanderling.registry.access.tokens import PREFIX, make_token, read_token

PasswordName = Literal["password", "password2"]
PASSWORD_NAMES: tuple[PasswordName, PasswordName] = ("password", "password2")
_TOKEN_USER = "token"
_MAX_PASSWORD = 16384


class Authorizer(Protocol):
    """What the protocol endpoint asks about callers. May block: it is called in a thread."""

    def authenticate(self, user: str, password: str, client: str = "") -> Principal | None:
        """Return who has this name and password; raise `Slowed`, `TokenExpired`."""

    def verify(self, token: str) -> Principal | None:
        """Return whom a bearer token speaks for; raise `TokenExpired`."""

    def anyone(self) -> Principal | None:
        """Return whom a request without credentials speaks for; None: it must sign in."""

    def grant(self, principal: Principal, ttl_s: float) -> str:
        """Return a bearer token for *principal*."""


@dataclass(frozen=True, slots=True)
class AdminUser:
    """The admin user of a workspace; `passwords` are the two, in order."""

    username: str
    enabled: bool
    passwords: tuple[str, str]

    def __repr__(self) -> str:
        return f"AdminUser({self.username!r}, enabled={self.enabled})"  # no passwords in logs


class RegistryCredentials:
    """The `Authorizer` over SQL.

    *seal* and *unseal* guard what is kept. *bearer*, when given, is asked about
    tokens that are not the registry's own (the server's API tokens). *sign_in*,
    when given, is asked about names and passwords that are not an admin user's.
    """

    def __init__(
        self,
        engine: Engine,
        seal: Callable[[bytes], bytes],
        unseal: Callable[[bytes], bytes],
        *,
        bearer: Callable[[str], Principal | None] | None = None,
        sign_in: Callable[[str, str], Principal | None] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._seal, self._unseal = engine, seal, unseal
        self._bearer, self._sign_in, self._clock = bearer, sign_in, clock
        self._throttle = Throttle(monotonic)
        tables.metadata.create_all(engine)
        self._key = self._ensure_key()

    def admin(self, workspace: str) -> AdminUser:
        """Return the admin user of *workspace*; it is made, switched off, when first asked for."""
        found = self._find_admin(workspace)
        if found is None:
            Scope.of(f"{workspace}/*", "pull")  # refuses a name that is no part of a repository's
            first, second = (self._seal(_new_password().encode()) for _ in PASSWORD_NAMES)
            row: dict[str, object] = {
                "workspace": workspace,
                "enabled": False,
                "password": first,
                "password2": second,
            }
            with self._engine.begin() as connection:
                tables.put_row(connection, tables.admins, row, replace=False)
            found = self._find_admin(workspace)
        assert found is not None
        return found

    def set_admin_enabled(self, workspace: str, enabled: bool) -> AdminUser:
        """Switch the admin user on or off; off, its passwords and their tokens do not work."""
        self.admin(workspace)
        self._update(workspace, enabled=enabled)
        return self.admin(workspace)

    def regenerate(self, workspace: str, name: PasswordName) -> AdminUser:
        """Replace one of the two passwords; raise `Invalid` for another name."""
        if name not in PASSWORD_NAMES:
            raise Invalid(f"{str(name)[:50]!r} is no password's name: password or password2 is expected")
        self.admin(workspace)
        self._update(workspace, **{name: self._seal(_new_password().encode())})
        return self.admin(workspace)

    def issue(self, subject: str, scopes: Iterable[Scope], ttl_s: float) -> str:
        """Return a token with *scopes* for *ttl_s* seconds.

        It works as a bearer token, and as the password of the user *subject*
        or `token`.
        """
        return self.grant(Principal(subject, tuple(scopes)), ttl_s)

    def anyone(self) -> Principal | None:
        """See `Authorizer.anyone`: everybody must sign in."""
        return None

    def grant(self, principal: Principal, ttl_s: float) -> str:
        """See `Authorizer.grant`."""
        return make_token(self._key, principal, self._clock() + ttl_s)

    def authenticate(self, user: str, password: str, client: str = "") -> Principal | None:
        """Return who *user* is, or None; raise `Slowed` after too many wrong passwords.

        *client* is where the request came from: others are not slowed. A token
        that expired is no wrong password: it is not counted, and raises `TokenExpired`.
        """
        key = (user[:255], client[:255])
        self._throttle.check(key)
        principal = self._check_password(user, password) if len(password) <= _MAX_PASSWORD else None
        if principal is None:
            self._throttle.failed(key)
        else:
            self._throttle.succeeded(key)
        return principal

    def verify(self, token: str) -> Principal | None:
        """Return whom *token* speaks for, or None; raise `TokenExpired`."""
        if not token.startswith(PREFIX):
            return self._bearer(token) if self._bearer is not None else None
        principal = read_token(self._key, token, self._clock())
        if principal is None or principal.proof is None:
            return principal
        admin = self._find_admin(principal.proof.workspace)
        if admin is None or not admin.enabled or principal.proof not in self._proofs(admin):
            return None
        return principal

    def _check_password(self, user: str, password: str) -> Principal | None:
        if password.startswith(PREFIX):
            principal = self.verify(password)
            return principal if principal is not None and user in (principal.subject, _TOKEN_USER) else None
        admin = self._find_admin(user) if is_repository(user) else None
        # Both are compared, always, and in constant time: time must not tell which was close.
        expected = admin.passwords if admin is not None else ("", "")
        fits = [hmac.compare_digest(password.encode(), text.encode()) and bool(text) for text in expected]
        if admin is not None and admin.enabled and any(fits):
            return Principal(
                subject=user,
                scopes=(Scope.of(f"{user}/*", "pull", "push", "delete"),),
                proof=self._proofs(admin)[fits.index(True)],
            )
        if self._bearer is not None and user == _TOKEN_USER:
            return self._bearer(password)
        return self._sign_in(user, password) if self._sign_in is not None else None

    def _proofs(self, admin: AdminUser) -> list[AdminProof]:
        return [
            AdminProof(admin.username, name, hmac.new(self._key, password.encode(), hashlib.sha256).hexdigest()[:16])
            for name, password in zip(PASSWORD_NAMES, admin.passwords, strict=True)
        ]

    def _find_admin(self, workspace: str) -> AdminUser | None:
        query = select(tables.admins).where(tables.admins.c.workspace == workspace)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        passwords = (self._unseal(row.password).decode(), self._unseal(row.password2).decode())
        return AdminUser(row.workspace, row.enabled, passwords)

    def _update(self, workspace: str, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(tables.admins).where(tables.admins.c.workspace == workspace).values(values))

    def _ensure_key(self) -> bytes:
        row: dict[str, object] = {"name": "tokens", "sealed": self._seal(secrets.token_bytes(32))}
        with self._engine.begin() as connection:
            tables.put_row(connection, tables.keys, row, replace=False)
            query = select(tables.keys.c.sealed).where(tables.keys.c.name == "tokens")
            return self._unseal(connection.execute(query).scalar_one())


def _new_password() -> str:
    # Letters and digits only: it is pasted into shells and JSON. 52 of 62 are 309 bits.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(secrets.choice(alphabet) for _ in range(52))
