"""A deployment manifest for one device: checked whole, then put in force in one transaction."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine

from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.hub.identities import Identities, IdentityChange, find_in, get_in
from sanderling.hub.twins import DesiredChange, Twins
from sanderling.iot import DeploymentManifest
from sanderling.iot.identity import SYSTEM_MODULES

CheckImage = Callable[[str], None]


class Deployments:
    """Sets the modules of a device. Methods block."""

    def __init__(
        self, engine: Engine, identities: Identities, twins: Twins, check_image: CheckImage | None = None
    ) -> None:
        self._engine = engine
        self._identities = identities
        self._twins = twins
        self._check_image = check_image

    def apply(self, device_id: str, content: Mapping[str, Any]) -> list[DesiredChange]:
        """Replace the desired properties of every module that *content* names; make modules that are not there.

        Raises DeviceNotFound, or Invalid, which names what is wrong: then nothing has changed.
        """
        manifest = DeploymentManifest.parse(content)
        device = self._identities.get(device_id)
        if not device.is_edge and any(name in manifest.twins for name in SYSTEM_MODULES):
            raise Invalid(f"device {device_id!r} is not an edge device; register it with capabilities.iotEdge")
        self._check_images(manifest)
        names = list(manifest.twins) + [name for name in manifest.images() if name not in manifest.twins]
        changes = []
        with self._engine.begin() as db:
            get_in(db, device_id)
            for name in names:
                if find_in(db, device_id, name) is None:
                    self._identities.create_in(db, device_id, name, IdentityChange(managed_by="IotEdge"))
                if name in manifest.twins:
                    change = self._twins.replace_desired_in(db, device_id, name, manifest.twins[name])
                    changes += [change] if change is not None else []
        return changes

    def _check_images(self, manifest: DeploymentManifest) -> None:
        if self._check_image is None:
            return
        for name, image in manifest.images().items():
            try:
                self._check_image(image)
            except (NotFound, Invalid) as error:
                raise Invalid(f"module {name!r}: {error.message}") from error
            except SanderlingError as error:
                error.args = (f"module {name!r}: {error.message}",)
                raise
