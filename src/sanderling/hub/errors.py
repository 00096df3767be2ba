"""What can go wrong at the hub, and the one table that turns it into IoT Hub's codes."""

from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable


class DeviceNotFound(NotFound):
    """No device has this id."""

    def __init__(self, device_id: str) -> None:
        super().__init__(f"device {device_id!r} not found; was it registered in this hub?")
        self.device_id = device_id


class ModuleNotFound(NotFound):
    """The device has no module of this id."""

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(f"module {module_id!r} not found on device {device_id!r}; was it deployed or registered?")
        self.device_id, self.module_id = device_id, module_id


class DeviceNotOnline(NotFound):
    """The device or module is not connected, or does not listen to direct methods."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"{client_id!r} is not connected or takes no direct methods; is it running?")
        self.client_id = client_id


class DeviceAlreadyExists(Conflict):
    """The id is taken."""

    def __init__(self, device_id: str) -> None:
        super().__init__(f"device {device_id!r} is there already; update it with If-Match, or choose another id")
        self.device_id = device_id


class ModuleAlreadyExists(Conflict):
    """The id is taken."""

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(f"module {module_id!r} is there already on device {device_id!r}; update it with If-Match")
        self.device_id, self.module_id = device_id, module_id


class PreconditionFailed(Conflict):
    """It changed since the caller read its ETag."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} changed since its ETag was read; read it again")


class TooLarge(Invalid):
    """The request's body is over the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request's body is over the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Unauthenticated(Denied):
    """The caller did not say, or could not prove, who it is."""


class Forbidden(Denied):
    """The caller is known and lacks the right."""


class MethodTimeout(Unavailable):
    """The device did not answer a direct method in time."""

    def __init__(self, client_id: str, timeout_s: float) -> None:
        super().__init__(f"{client_id!r} did not answer the direct method within {timeout_s:g} s")
        self.client_id, self.timeout_s = client_id, timeout_s


# The first class that fits counts: name in bodies and headers, IoT Hub's number, our public API's word.
_TABLE: tuple[tuple[type[SanderlingError], str, int, str], ...] = (
    (DeviceNotFound, "DeviceNotFound", 404001, "not_found"),
    (ModuleNotFound, "ModuleNotFound", 404010, "not_found"),
    (DeviceNotOnline, "DeviceNotOnline", 404103, "not_found"),
    (NotFound, "NotFound", 404000, "not_found"),
    (DeviceAlreadyExists, "DeviceAlreadyExists", 409001, "conflict"),
    (ModuleAlreadyExists, "ModuleAlreadyExistsOnDevice", 409301, "conflict"),
    (PreconditionFailed, "PreconditionFailed", 412002, "conflict"),
    (Conflict, "Conflict", 409000, "conflict"),
    (TooLarge, "MessageTooLarge", 413001, "invalid"),
    (Invalid, "ArgumentInvalid", 400004, "invalid"),
    (Forbidden, "IotHubForbidden", 403000, "denied"),
    (Denied, "IoTHubUnauthorized", 401003, "unauthenticated"),
    (MethodTimeout, "GatewayTimeout", 504101, "unavailable"),
    (Unavailable, "ServiceUnavailable", 503001, "unavailable"),
    (SanderlingError, "ServerError", 500001, "unavailable"),
)


def describe(error: SanderlingError) -> tuple[str, int, str]:
    """Return the name, the number (its first three digits are the HTTP status) and our API's word for *error*."""
    return next((name, number, word) for kind, name, number, word in _TABLE if isinstance(error, kind))
