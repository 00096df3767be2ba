"""A deployment: which module a device runs, from which image, and where its messages go.

It is an IoT Edge deployment manifest in the end; `Deployment.from_manifest` takes
one that was written by hand, `Deployment(...)` writes one for a scoring module.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sanderling.errors import Invalid, NotFound
from sanderling.iot import AgentConfig, DeploymentManifest, HubConfig, ModuleSpec, RegistryCredential
from sanderling.iot.identity import check_id
from sanderling.sdk.deployment_wait import wait_for_modules
from sanderling.sdk.device import Device
from sanderling.sdk.hints import hinted
from sanderling.sdk.image import Image
from sanderling.sdk.registry import Credentials
from sanderling.sdk.registry_tokens import IssuedToken
from sanderling.sdk.reports import ModuleState

SCORING_PORT = "5001/tcp"
ENDPOINT = re.compile(r"[^/\s\"*]+")
STORE_S = 7 * 24 * 3600
MAX_MANIFEST_BYTES = 4 << 20


class Deployment:
    """The deployment of one image as a scoring module.

    Args:
        image: A built image, or the reference of one in any registry.
        module: The module's name; None means the image's name.
        host_port: The port of the device where `/score` answers; None publishes none.
        inputs_from: Whose messages are scored: `MODULE` for all that it sends, or `MODULE/OUTPUT`.
        routes: More routes, as `FROM ... INTO ...`.
        credentials: For the image's registry, put into the manifest. None when it needs none, and for the server's
            own registry: a device signs in there with its own identity. A device that runs Azure's IoT Edge runtime
            cannot do that; give it a token that was made for it (`workspace.registry.tokens.create`).
        env: Environment variables of the module.
        properties: Desired properties of the module's twin.

    Raises:
        Invalid: A name, a port or a route cannot be used, or the image is not built.
    """

    def __init__(
        self,
        image: Image | str,
        module: str | None = None,
        host_port: int | None = None,
        inputs_from: Sequence[str] = (),
        routes: Sequence[str] = (),
        credentials: Credentials | IssuedToken | None = None,
        env: Mapping[str, str] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self.image = _reference(image)
        self.module = module or (image.name if isinstance(image, Image) else _last_name(image))
        check_id("module", self.module)
        if host_port is not None and not 1 <= host_port <= 65535:
            raise Invalid(f"{host_port} is not a port: 1 to 65535")
        self.host_port = host_port
        given = {f"route{number}": text for number, text in enumerate(routes, 1)}
        self.routes = {**self._own_routes(inputs_from), **given}
        self.manifest = self._manifest(credentials, env or {}, properties or {})

    @classmethod
    def from_manifest(cls, path: Path | str) -> "ManifestDeployment":
        """Read a deployment manifest that was written by hand.

        Args:
            path: The JSON file.

        Returns:
            The deployment.

        Raises:
            NotFound: There is no such file.
            Invalid: It is no deployment manifest.
        """
        return ManifestDeployment(_read_manifest(Path(path)))

    def apply(self, device: Device) -> None:
        """Give the deployment to a device.

        Args:
            device: The device.

        Raises:
            Invalid: The hub refuses it. The device keeps the deployment it had.
        """
        apply_manifest(self.manifest, device)

    def wait(
        self,
        device: Device,
        on_change: Callable[[Sequence[ModuleState]], None] | None = None,
        timeout_s: float = 600.0,
    ) -> Sequence[ModuleState]:
        """Wait until the device reports that all modules run as wanted. See `wait_for_modules`."""
        return wait_for_modules(self.manifest, device, on_change, timeout_s)

    def _own_routes(self, inputs_from: Sequence[str]) -> dict[str, str]:
        routes = {f"{self.module}ToUpstream": f"FROM /messages/modules/{self.module}/outputs/* INTO $upstream"}
        for source in inputs_from:
            sender, _, output = source.partition("/")
            path = f"/messages/modules/{sender}/outputs/{output}" if output else f"/messages/modules/{sender}/*"
            if not ENDPOINT.fullmatch(sender) or (output and not ENDPOINT.fullmatch(output)):
                raise Invalid(f"{source!r} is not MODULE or MODULE/OUTPUT")
            name = f"{sender}{output}To{self.module}"
            routes[name] = f'FROM {path} INTO BrokeredEndpoint("/modules/{self.module}/inputs/amlInput")'
        return routes

    def _manifest(
        self, credentials: Credentials | IssuedToken | None, env: Mapping[str, str], properties: Mapping[str, Any]
    ) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.host_port is not None:
            options = {
                "ExposedPorts": {SCORING_PORT: {}},
                "HostConfig": {"PortBindings": {SCORING_PORT: [{"HostPort": str(self.host_port)}]}},
            }
        spec = ModuleSpec(self.module, self.image, version="1.0", create_options=options, env=env)
        agent = AgentConfig.build({self.module: spec}, _registry_credentials(credentials))
        hub = HubConfig.build(self.routes, STORE_S)
        twins = {self.module: properties} if properties else {}
        return DeploymentManifest.build(agent, hub, twins).to_json()


class ManifestDeployment:
    """A deployment manifest as it was written.

    Args:
        manifest: `{"modulesContent": {...}}`.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self.manifest = dict(manifest)

    def apply(self, device: Device) -> None:
        """Give the deployment to a device. See `Deployment.apply`."""
        apply_manifest(self.manifest, device)

    def wait(
        self,
        device: Device,
        on_change: Callable[[Sequence[ModuleState]], None] | None = None,
        timeout_s: float = 600.0,
    ) -> Sequence[ModuleState]:
        """Wait until the device reports that all modules run as wanted. See `wait_for_modules`."""
        return wait_for_modules(self.manifest, device, on_change, timeout_s)


def apply_manifest(manifest: Mapping[str, Any], device: Device) -> None:
    """Give *manifest* to *device*, which must be one with the edge runtime."""
    if not device.is_edge:
        raise hinted(
            Invalid(f"device {device.device_id!r} has no edge runtime, so it cannot run modules"),
            "sanderling device create NAME, without --no-edge",
        )
    device.apply(manifest)


def _reference(image: Image | str) -> str:
    if isinstance(image, str):
        if not image or any(c.isspace() for c in image):
            raise Invalid(f"{image!r} is not the reference of an image")
        return image
    if image.state != "succeeded":
        raise hinted(
            Invalid(f"image {image.id} is not built ({image.state}); only a built image can be deployed"),
            f"sanderling image logs {image.id} --follow",
        )
    return image.location


def _last_name(reference: str) -> str:
    return reference.split("@")[0].rsplit("/", 1)[-1].split(":")[0]


def _registry_credentials(credentials: Credentials | IssuedToken | None) -> tuple[RegistryCredential, ...]:
    if credentials is None:
        return ()
    if isinstance(credentials, IssuedToken):
        name = credentials.token.name
        return (RegistryCredential(name, credentials.login_server, credentials.username, credentials.password),)
    if not credentials.is_enabled or not credentials.passwords:
        raise hinted(
            Invalid(f"the registry's admin user {credentials.username!r} is off, so a device could not pull"),
            "sanderling registry credentials --enable",
        )
    password = next(iter(credentials.passwords.values()))
    return (RegistryCredential(credentials.username, credentials.login_server, credentials.username, password),)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise Invalid(f"{path} is larger than a manifest can be")
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path} is not JSON: {error}") from error
    try:
        return DeploymentManifest.parse(manifest).to_json()
    except Invalid as error:
        raise Invalid(f"{path}: {error.message}") from error
