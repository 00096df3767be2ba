"""Who comes to the registry from elsewhere in this server: holders of API tokens, and the hub's devices."""

from sanderling.errors import Invalid
from sanderling.hub import DevicePulls, PullingDevice
from sanderling.oci import Reference
from sanderling.registry import DeviceStanding, Principal, Proof, Scope
from sanderling.server.access import Access, Caller, Unauthenticated


def principal_of(caller: Caller) -> Principal:
    """Return the owner with all rights everywhere, who has a workspace's token with all rights in that workspace."""
    pattern = "*" if caller.is_owner else f"{caller.workspace}/*"
    return Principal(
        caller.kind,
        (Scope.of(pattern, "pull", "push", "delete", "list"),),
        proof=Proof("server", caller.mark, ""),
        expires_at=None if caller.expires_at is None else caller.expires_at.timestamp(),
    )


class ApiTokens:
    """Lets the API's tokens in at the registry."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def find(self, token: str) -> Principal | None:
        """Return whose *token* it is, or None."""
        try:
            return principal_of(self._access.authenticate(token))
        except Unauthenticated:
            return None

    def recall(self, mark: str) -> Principal | None:
        """Return whose token has *mark*, or None when it has ended."""
        caller = self._access.recall(mark)
        return None if caller is None else principal_of(caller)


class HubDevices:
    """Lets the hub's devices in at the registry: each may pull the images of its own deployment."""

    def __init__(self, login_server: str) -> None:
        self._login_server = login_server.lower()
        self._pulls: DevicePulls | None = None

    def ask(self, pulls: DevicePulls) -> None:
        """Say whom to ask; the hub is made after the registry, which it asks about images."""
        self._pulls = pulls

    def sign_in(self, device_id: str, signature: str) -> DeviceStanding | None:
        """See `sanderling.registry.Devices`."""
        return self._standing(self._pulls.sign_in(device_id, signature) if self._pulls else None)

    def find(self, device_id: str) -> DeviceStanding | None:
        """See `sanderling.registry.Devices`."""
        return self._standing(self._pulls.find(device_id) if self._pulls else None)

    def _standing(self, device: PullingDevice | None) -> DeviceStanding | None:
        if device is None:
            return None
        repositories = frozenset(name for name in map(self._repository, device.images) if name is not None)
        return DeviceStanding(device.device_id, device.generation_id, device.mark, repositories, device.expires_at)

    def _repository(self, image: str) -> str | None:
        """Return the repository of an image of this server's registry, or None."""
        try:
            reference = Reference.parse(image)
        except Invalid:
            return None
        return reference.repository if reference.registry.lower() == self._login_server else None
