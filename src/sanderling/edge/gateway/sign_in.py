"""Who may connect to the gateway: modules of this device, by a signature with their own key.

Identities come from the cache, so sign-in works without the hub. What the cache
does not know, or whose signature does not fit, may be new: the hub is asked once,
then refused. While the hub cannot be asked the answer is "not now" (3), never
"no" (5): clients give up for good at a no.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sanderling.edge.identities import Identities
from sanderling.errors import Denied, SanderlingError, Unavailable
from sanderling.iot import sas
from sanderling.iot.identity import SYSTEM_MODULES
from sanderling.mqtt import Connect, ReturnCode

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A module, and when its token ends (seconds since the epoch)."""

    module_id: str
    expires_at: float


class Refusal(Denied):
    """The client is turned down with *return_code*."""

    def __init__(self, message: str, return_code: ReturnCode) -> None:
        super().__init__(message)
        self.return_code = return_code


class SignIn:
    """Checks CONNECT packets against the identities of one device."""

    def __init__(self, identities: Identities, clock: Callable[[], float] = time.time) -> None:
        self._identities = identities
        self._clock = clock

    async def check(self, connect: Connect) -> SignedIn:
        """Return who it is; raise `Refusal`."""
        device, _, module = connect.client_id.partition("/")
        if device != self._identities.device_id or not module or module in SYSTEM_MODULES:
            raise Refusal(f"{connect.client_id[:200]!r} is no module of this device", ReturnCode.NOT_AUTHORIZED)
        names = (connect.username or "").split("/")
        if names[1:3] != [device, module] or "api-version=" not in (connect.username or ""):
            raise Refusal(f"module {module!r}: the user name does not fit the client id", ReturnCode.BAD_CREDENTIALS)
        try:
            token = sas.parse((connect.password or b"").decode("ascii", "replace"))
        except SanderlingError as e:
            raise Refusal(f"module {module!r}: {e.message}", ReturnCode.NOT_AUTHORIZED) from e
        try:
            self._verify(token, device, module)
        except (Denied, Unavailable) as first:
            if isinstance(first, sas.TokenExpired | sas.WrongScope):
                raise Refusal(f"module {module!r}: {first.message}", ReturnCode.NOT_AUTHORIZED) from first
            await self._ask_hub(module, first)
            try:
                self._verify(token, device, module)
            except SanderlingError as e:
                raise Refusal(f"module {module!r}: {e.message}", ReturnCode.NOT_AUTHORIZED) from e
        return SignedIn(module, token.expires_at)

    def _verify(self, token: sas.SasToken, device: str, module: str) -> None:
        known = self._identities.find(module)
        if known is None or not known.keys:
            raise Denied("the hub has no such module for this device")
        sas.verify(token, known.keys, resource_path=f"devices/{device}/modules/{module}", now=self._clock())

    async def _ask_hub(self, module: str, why: SanderlingError) -> None:
        try:
            await self._identities.sync()
        except SanderlingError as e:
            message = f"module {module!r}: {why.message}; the hub cannot be asked: {e.message}"
            raise Refusal(message, ReturnCode.SERVER_UNAVAILABLE) from e
