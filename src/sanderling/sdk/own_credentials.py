"""Registry tokens for one device, for a runtime that cannot sign in with the device's identity."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from secrets import token_hex

from sanderling.errors import Conflict, Denied, Invalid, NotFound
from sanderling.oci import Reference
from sanderling.sdk.device import Device
from sanderling.sdk.registry_tokens import IssuedToken
from sanderling.sdk.workspace import Workspace

_PREFIX = "deploy-"


class OwnCredentials:
    """The tokens that deployments made for a device; at most one is left after each.

    Args:
        workspace: The workspace whose images the device pulls.
        device: The device.
    """

    def __init__(self, workspace: Workspace, device: Device) -> None:
        self._tokens, self._login_server = workspace.registry.tokens, workspace.login_server
        self._workspace, self._device = workspace, device
        self._made: IssuedToken | None = None

    def make(self, image: str, expires_in: timedelta) -> IssuedToken:
        """Make a token with which the device can pull *image*, and nothing else.

        Args:
            image: The image's reference.
            expires_in: How long it is good.

        Returns:
            The token, for the deployment.

        Raises:
            Invalid: The image is not one of this workspace.
        """
        reference = Reference.parse(image)
        if reference.registry != self._login_server or not reference.repository.startswith(f"{self._workspace.name}/"):
            raise Invalid(f"{image} is not an image of workspace {self._workspace.name!r}, so no token opens it")
        words = re.sub(r"[^a-z0-9]+", "-", self._device.device_id.lower()).strip("-")[:40].strip("-")
        self._made = self._tokens.create(
            f"{_PREFIX}{words}-{token_hex(4)}" if words else f"{_PREFIX}{token_hex(4)}",
            [reference.repository],
            ["pull"],
            expires_in=expires_in,
            description=f"for device {self._device.device_id}, made by its deployment",
            device=self._device.device_id,
        )
        return self._made

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Do a deployment inside: when it is done the earlier tokens go, when it is refused the new one does.

        When its answer was lost, either may be in use, and both stay until the next deployment.
        """
        try:
            yield
        except (Invalid, NotFound, Conflict, Denied):
            if self._made is not None:
                self._forget(self._made.token.name)
            raise
        kept = self._made.token.name if self._made is not None else None
        for token in self._tokens.list():
            if token.device == self._device.device_id and token.name.startswith(_PREFIX) and token.name != kept:
                self._forget(token.name)

    def _forget(self, name: str) -> None:
        with suppress(NotFound):
            self._tokens.delete(name)
