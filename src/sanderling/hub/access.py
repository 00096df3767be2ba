"""Who may do what over HTTPS.

Three kinds of caller: a holder of a policy's key (a token with ``skn``), a device with its own key (it manages its own
modules and nothing else), and whoever the server's `bearer` knows. Rights are IoT Hub's: a policy is a name for some
of them.
"""

import base64
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, insert, select

from sanderling.errors import Denied, NotFound
from sanderling.hub import tables
from sanderling.hub.errors import Forbidden, Unauthenticated
from sanderling.hub.identities import Identity, find_in
from sanderling.iot import sas

REGISTRY_READ = "RegistryRead"
REGISTRY_WRITE = "RegistryWrite"
SERVICE_CONNECT = "ServiceConnect"
DEVICE_CONNECT = "DeviceConnect"
ALL_RIGHTS = frozenset({REGISTRY_READ, REGISTRY_WRITE, SERVICE_CONNECT, DEVICE_CONNECT})

POLICIES: Mapping[str, frozenset[str]] = {
    "iothubowner": ALL_RIGHTS,
    "service": frozenset({SERVICE_CONNECT}),
    "device": frozenset({DEVICE_CONNECT}),
    "registryRead": frozenset({REGISTRY_READ}),
    "registryReadWrite": frozenset({REGISTRY_READ, REGISTRY_WRITE}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. *device_id* is there when it is a device."""

    name: str
    rights: frozenset[str]
    device_id: str | None = None

    def demand(self, right: str, *, own_device_id: str | None = None) -> None:
        """Return when the caller has *right*, or is the device *own_device_id* itself. Raises Forbidden."""
        if right in self.rights or (own_device_id is not None and own_device_id == self.device_id):
            return
        raise Forbidden(f"{self.name} lacks the right {right}; use a policy or user that has it")


class Access:
    """Policies with their keys, and the proof of who calls. Methods block."""

    def __init__(
        self,
        engine: Engine,
        random_bytes: Callable[[int], bytes],
        bearer: Callable[[str], Collection[str] | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._bearer = bearer
        self._clock = clock
        self._ensure_policies(random_bytes)

    def policy_key(self, name: str) -> str:
        """Return the primary key of the policy. Raises NotFound."""
        keys = self._policy(name)[1]
        return keys[0]

    def authenticate(self, header: str | None) -> Principal:
        """Return who sent this Authorization header. Raises Unauthenticated."""
        if not header:
            raise Unauthenticated("the request has no Authorization; send a shared access signature or a bearer token")
        try:
            if header.startswith("SharedAccessSignature "):
                return self._by_signature(sas.parse(header))
            scheme, _, token = header.partition(" ")
            rights = self._bearer(token.strip()) if scheme.lower() == "bearer" and self._bearer else None
        except Denied as error:
            raise Unauthenticated(error.message) from error
        if rights is None:
            raise Unauthenticated("the token is not known here; sign in again")
        return Principal("the user", frozenset(rights))

    def verify_client(self, identity: Identity, password: str) -> int:
        """Return when the password of an MQTT client ends (seconds since 1970). Raises Denied.

        A token is signed with a key of the identity itself, or with a policy that may connect as any device.
        """
        token = sas.parse(password)
        keys: Collection[str] = identity.keys
        if token.policy is not None:
            rights, keys = self._policy_of(token)
            if DEVICE_CONNECT not in rights:
                raise Forbidden(f"the policy {token.policy!r} may not connect as a device")
        elif not token.path:
            raise sas.WrongScope(scope="", resource=identity.path)
        sas.verify(token, keys, resource_path=identity.path, now=self._clock())
        return token.expires_at

    def _by_signature(self, token: sas.SasToken) -> Principal:
        if token.policy is not None:
            rights, keys = self._policy_of(token)
            sas.verify(token, keys, resource_path=token.path, now=self._clock())
            if token.path:
                raise Unauthenticated("a policy's token names the whole hub; sign it for the host name alone")
            return Principal(f"the policy {token.policy!r}", rights)
        steps = token.path.split("/")
        if len(steps) != 2 or steps[0] != "devices":
            raise Unauthenticated("the token names neither a policy nor a device")
        with self._engine.connect() as db:
            device = find_in(db, steps[1])
        if device is None or not device.is_enabled:
            raise Unauthenticated(f"device {steps[1]!r} is not known here, or is disabled")
        sas.verify(token, device.keys, resource_path=device.path, now=self._clock())
        return Principal(f"device {device.device_id!r}", frozenset(), device.device_id)

    def _policy_of(self, token: sas.SasToken) -> tuple[frozenset[str], tuple[str, str]]:
        try:
            return self._policy(token.policy or "")
        except NotFound as error:
            raise Unauthenticated(error.message) from error

    def _policy(self, name: str) -> tuple[frozenset[str], tuple[str, str]]:
        with self._engine.connect() as db:
            row = db.execute(select(tables.policies).where(tables.policies.c.name == name)).first()
        if row is None:
            raise NotFound(f"this hub has no policy {name[:60]!r}; it has {', '.join(POLICIES)}")
        return frozenset(row.rights), (row.primary_key, row.secondary_key)

    def _ensure_policies(self, random_bytes: Callable[[int], bytes]) -> None:
        def new_key() -> str:
            return base64.b64encode(random_bytes(32)).decode()

        with self._engine.begin() as db:
            known = set(db.execute(select(tables.policies.c.name)).scalars())
            for name in POLICIES.keys() - known:
                row = {"name": name, "rights": sorted(POLICIES[name])}
                keys = {"primary_key": new_key(), "secondary_key": new_key()}
                db.execute(insert(tables.policies).values(row | keys))
