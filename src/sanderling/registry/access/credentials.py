"""Whom the registry knows, and whether what they show is still good.

    admin user       <workspace>           one of two passwords            admins.py
    named token      <workspace>.<token>   its password                    named_tokens.py
    device           <device>              a signature with its own key    devices.py
    the server's     token                 a token of the server's API     asked of the server
    short-lived      any of these, `token` a token that was issued here    tokens.py

- A short-lived token names what it was got with, and that is looked up whenever it
  is used: it ends with its password, named token, device or API token, and never
  allows more than that does now.
- A right password is never refused for others' wrong ones: see `throttle`.
- A wrong password costs what an unknown user does.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import unquote

from sqlalchemy import Engine, select

from sanderling.registry import tables
from sanderling.registry.access.admins import Admins, AdminUser, PasswordName
from sanderling.registry.access.devices import Devices, DeviceStanding
from sanderling.registry.access.named_tokens import NamedToken, NamedTokens
from sanderling.registry.access.rights import Principal, Proof, Scope
from sanderling.registry.access.secrets import hash_password, mark_of
from sanderling.registry.access.throttle import Throttle
from sanderling.registry.access.tokens import PREFIX, TokenExpired, make_token, read_token

_TOKEN_USER = "token"
_DEVICE_SIGNATURE = "SharedAccessSignature "
_MAX_PASSWORD = 16384
_MAX_USER = 1000


class Authorizer(Protocol):
    """What the protocol endpoint asks about callers. All but `anyone` may block: they are called in a thread."""

    def authenticate(self, user: str, password: str, client: str = "") -> Principal | None:
        """Return who has this name and password; raise `Slowed`, `TokenExpired`."""

    def verify(self, token: str) -> Principal | None:
        """Return whom a bearer token speaks for; raise `TokenExpired`."""

    def anyone(self) -> Principal | None:
        """Return whom a request without credentials speaks for; None: it must sign in."""

    def grant(self, principal: Principal, ttl_s: float) -> str:
        """Return a bearer token for *principal*."""


class RegistryCredentials:
    """The `Authorizer` over SQL.

    *seal* and *unseal* guard what is kept. *bearer*, when given, is asked about
    tokens that are not the registry's own (the server's API tokens), and *sign_in*
    about names and passwords that are not; when what they return has a proof of kind
    "server", *recall* is asked about the proof's name later. *devices* knows the hub's
    devices. `tokens` are the named tokens.
    """

    def __init__(
        self,
        engine: Engine,
        seal: Callable[[bytes], bytes],
        unseal: Callable[[bytes], bytes],
        *,
        bearer: Callable[[str], Principal | None] | None = None,
        sign_in: Callable[[str, str], Principal | None] | None = None,
        recall: Callable[[str], Principal | None] | None = None,
        devices: Devices | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._seal, self._unseal = engine, seal, unseal
        self._bearer, self._sign_in, self._recall = bearer, sign_in, recall
        self._devices, self._clock = devices, clock
        self._throttle = Throttle(monotonic)
        tables.metadata.create_all(engine)
        self._key = self._ensure_key("tokens")
        self._password_key = self._ensure_key("passwords")
        self._admins = Admins(engine, seal, unseal)
        self.tokens = NamedTokens(engine, self._password_key, clock)
        self._no_hash = hash_password(self._password_key, "")

    def admin(self, workspace: str) -> AdminUser:
        """Return the admin user of *workspace*; it is made, switched off, when first asked for."""
        return self._admins.ensure(workspace)

    def set_admin_enabled(self, workspace: str, enabled: bool) -> AdminUser:
        """Switch the admin user on or off; off, its passwords and their tokens do not work."""
        return self._admins.set_enabled(workspace, enabled)

    def regenerate(self, workspace: str, name: PasswordName) -> AdminUser:
        """Replace one of the two passwords; raise `Invalid` for another name."""
        return self._admins.regenerate(workspace, name)

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
        """See `Authorizer.grant`; raise `Invalid` when it has more scopes than fit."""
        return make_token(self._key, principal, self._clock() + ttl_s)

    def authenticate(self, user: str, password: str, client: str = "") -> Principal | None:
        """Return who *user* is, or None; raise `Slowed` for a wrong password after too many.

        *client* is the address that the request came from. A token that expired
        is no wrong password: it is not counted, and raises `TokenExpired`.
        """
        principal = None
        if len(password) <= _MAX_PASSWORD and len(user) <= _MAX_USER:
            principal = self._check_password(user, password)
        if principal is None:
            self._throttle.failed(user[:255], client[:255])
        else:
            self._throttle.succeeded(user[:255], client[:255])
        return principal

    def verify(self, token: str) -> Principal | None:
        """Return whom *token* speaks for, or None; raise `TokenExpired`."""
        if not token.startswith(PREFIX):
            return self._bearer(token) if self._bearer is not None else None
        principal = read_token(self._key, token, self._clock())
        if principal is None or principal.proof is None:
            return principal
        current = self._standing(principal.proof)
        return None if current is None else principal.within(current)

    def _check_password(self, user: str, password: str) -> Principal | None:
        if password.startswith(PREFIX):
            principal = self.verify(password)
            return principal if principal is not None and user in (principal.subject, _TOKEN_USER) else None
        if password.startswith(_DEVICE_SIGNATURE):
            return self._check_device(user, password)
        if "." in user:
            return self._check_named(user, password)
        found = self._admins.check(user, password)
        if found is not None:
            return self._admin_principal(*found)
        if self._bearer is not None and user == _TOKEN_USER:
            return self._bearer(password)
        return self._sign_in(user, password) if self._sign_in is not None else None

    def _check_device(self, user: str, signature: str) -> Principal | None:
        if self._devices is None:
            return None
        # RFC 7617: a user name in Basic has no colon, and a device's may: it comes quoted.
        for device_id in dict.fromkeys((user, unquote(user))):
            standing = self._devices.sign_in(device_id, signature)
            if standing is not None:
                return self._device_principal(standing)
        return None

    def _check_named(self, user: str, password: str) -> Principal | None:
        workspace, _, name = user.partition(".")
        token = self.tokens.find(workspace, name) if user.isascii() and user.isprintable() else None
        presented = hash_password(self._password_key, password)
        fits = hmac.compare_digest(presented, token.hash if token is not None else self._no_hash)
        if token is None or not fits or not token.is_enabled:
            return None
        if token.expires_at is not None and token.expires_at <= self._clock():
            raise TokenExpired(token.expires_at)
        if not self._is_good(token):
            return None
        self.tokens.note_use(token)
        return self._token_principal(token)

    def _standing(self, proof: Proof) -> Principal | None:
        """Return all that *proof* gives now, or None when it is not good any more."""
        match proof.kind:
            case "admin":
                admin = self._admins.find(proof.name)
                if admin is None or not admin.enabled:
                    return None
                found = [self._admin_principal(admin, password) for password in admin.passwords]
                return next((principal for principal in found if principal.proof == proof), None)
            case "token":
                token = self.tokens.find(*proof.name.split(".", 1))
                if token is None or not self._is_good(token):
                    return None
                principal = self._token_principal(token)
            case "device":
                standing = self._devices.find(proof.name) if self._devices is not None else None
                if standing is None:
                    return None
                principal = self._device_principal(standing)
            case "server":
                recalled = self._recall(proof.name) if self._recall is not None else None
                if recalled is None:
                    return None
                principal = recalled
            case _:
                return None
        return principal if principal.proof == proof else None

    def _is_good(self, token: NamedToken) -> bool:
        if not token.is_enabled or (token.expires_at is not None and token.expires_at <= self._clock()):
            return False
        if not token.device:
            return True
        standing = self._devices.find(token.device) if self._devices is not None else None
        return standing is not None and standing.generation == token.device_generation

    def _admin_principal(self, admin: AdminUser, password: str) -> Principal:
        return Principal(
            subject=admin.username,
            scopes=(Scope.of(f"{admin.username}/*", "pull", "push", "delete"),),
            proof=Proof("admin", admin.username, mark_of(self._key, password)),
        )

    def _token_principal(self, token: NamedToken) -> Principal:
        return Principal(
            subject=token.username,
            scopes=token.scopes,
            proof=Proof("token", token.username, mark_of(self._key, token.hash)),
            expires_at=token.expires_at,
        )

    def _device_principal(self, standing: DeviceStanding) -> Principal:
        return Principal(
            subject=standing.device_id,
            scopes=tuple(Scope.of(name, "pull") for name in sorted(standing.repositories)),
            proof=Proof("device", standing.device_id, mark_of(self._key, f"{standing.generation}/{standing.mark}")),
            expires_at=standing.expires_at,
        )

    def _ensure_key(self, name: str) -> bytes:
        row: dict[str, object] = {"name": name, "sealed": self._seal(secrets.token_bytes(32))}
        with self._engine.begin() as connection:
            tables.put_row(connection, tables.keys, row, replace=False)
            query = select(tables.keys.c.sealed).where(tables.keys.c.name == name)
            return self._unseal(connection.execute(query).scalar_one())
