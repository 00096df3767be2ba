"""The config of an image: how its layers unpack and how its process starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sanderling.errors import Invalid
from sanderling.oci.descriptor import Platform
from sanderling.oci.digest import Digest
from sanderling.oci.document import object_field, parse_document, text_field, text_list, text_map

_PLATFORM_FIELDS = ("os", "architecture", "variant", "os.version", "os.features")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What image-spec 1.1 calls the image configuration; Docker's is the same.

    `env` holds `NAME=value` texts in order. `exposed_ports` holds `5001/tcp`.
    `created` is the text as written, or empty.
    """

    raw: bytes = field(repr=False)
    digest: Digest
    platform: Platform
    diff_ids: tuple[Digest, ...]
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    stop_signal: str = ""
    created: str = ""

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read an image config; raise `Invalid`."""
        fields = parse_document(raw, "image config")
        rootfs = object_field(fields, "rootfs", "image config") or {}
        settings = object_field(fields, "config", "image config") or {}
        if rootfs.get("type", "layers") != "layers":
            raise Invalid("rootfs.type of the image config is not 'layers'")
        ports = object_field(settings, "ExposedPorts", "image config") or {}
        return cls(
            raw=raw,
            digest=Digest.of(raw),
            platform=Platform.from_json({name: fields[name] for name in _PLATFORM_FIELDS if name in fields}),
            diff_ids=tuple(Digest.parse(text) for text in text_list(rootfs, "diff_ids", "image config")),
            env=text_list(settings, "Env", "image config"),
            entrypoint=text_list(settings, "Entrypoint", "image config"),
            cmd=text_list(settings, "Cmd", "image config"),
            working_dir=text_field(settings, "WorkingDir", "image config"),
            user=text_field(settings, "User", "image config"),
            exposed_ports=tuple(sorted(ports)),
            labels=text_map(settings, "Labels", "image config"),
            stop_signal=text_field(settings, "StopSignal", "image config"),
            created=text_field(fields, "created", "image config"),
        )

    @property
    def variables(self) -> dict[str, str]:
        """`env` as a mapping; a later one wins, one without `=` is empty."""
        return {name: value for name, _, value in (entry.partition("=") for entry in self.env)}

    def to_json(self) -> dict[str, Any]:
        """Return the document as it was, unknown fields included."""
        return parse_document(self.raw, "image config")
