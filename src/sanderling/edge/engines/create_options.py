"""Reads what a manifest's createOptions ask of a container engine.

The body is Docker's `POST /containers/create` (Engine API 1.41). Docker gets it
as it is; here are the parts that an engine without Docker honours. What it
cannot honour and what would change how the module works is named by
`unsupported`, so that nothing is ignored silently.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sanderling.errors import Invalid

_HONOURED_HOST_CONFIG = {"Binds", "Mounts", "PortBindings", "RestartPolicy", "LogConfig", "NetworkMode", "AutoRemove"}
_HONOURED = {"Env", "Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts", "Labels", "HostConfig", "Hostname"}
_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder or file of the host, or a named volume, inside the module."""

    source: str
    target: str
    is_volume: bool
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of the module (`5001`, `tcp`) wanted on a port of the host."""

    container_port: int
    protocol: str
    host_port: int
    host_address: str


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """The honoured parts; None means that the image's own value holds."""

    env: Mapping[str, str]
    cmd: tuple[str, ...] | None
    entrypoint: tuple[str, ...] | None
    working_dir: str | None
    user: str | None
    binds: tuple[Bind, ...]
    ports: tuple[PublishedPort, ...]
    unsupported: tuple[str, ...]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "CreateOptions":
        """Read the body; raise `Invalid` naming the field that is wrong."""
        host = _mapping(body.get("HostConfig"), "HostConfig")
        binds = [_bind(text) for text in _texts(host.get("Binds"), "HostConfig.Binds") or ()]
        binds += [_mount(mount) for mount in _list(host.get("Mounts"), "HostConfig.Mounts")]
        strange = [name for name, value in body.items() if name not in _HONOURED and value]
        strange += [f"HostConfig.{name}" for name, value in host.items() if name not in _HONOURED_HOST_CONFIG and value]
        return cls(
            env=_env(_texts(body.get("Env"), "Env") or ()),
            cmd=_texts(body.get("Cmd"), "Cmd"),
            entrypoint=_texts(body.get("Entrypoint"), "Entrypoint"),
            working_dir=_text(body.get("WorkingDir"), "WorkingDir"),
            user=_text(body.get("User"), "User"),
            binds=tuple(binds),
            ports=tuple(_ports(_mapping(host.get("PortBindings"), "HostConfig.PortBindings"))),
            unsupported=tuple(sorted(strange)),
        )


def _env(entries: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"createOptions: {what} is not an object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Invalid(f"createOptions: {what} is not a list")
    return value


def _text(value: object, what: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise Invalid(f"createOptions: {what} is not a text")
    return value


def _texts(value: object, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    # Docker takes a single text for Cmd and Entrypoint as one word.
    values = [value] if isinstance(value, str) else _list(value, what)
    if not all(isinstance(v, str) and "\0" not in v for v in values):
        raise Invalid(f"createOptions: {what} is not a list of texts")
    return tuple(values)


def _bind(text: str) -> Bind:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    modes = set(mode.split(",")) - {""}
    if not source or not modes <= {"ro", "rw", "z", "Z", "rslave", "rprivate", "rshared", "slave", "private", "shared"}:
        raise Invalid(f"createOptions: {text!r} is not a bind: source:target[:ro] is expected")
    return _checked(source, target, "ro" in modes)


def _mount(mount: object) -> Bind:
    if not isinstance(mount, dict):
        raise Invalid("createOptions: an entry of HostConfig.Mounts is not an object")
    kind = mount.get("Type", "volume")
    if kind not in ("bind", "volume"):
        raise Invalid(f"createOptions: mounts of type {kind!r} are not known here: bind and volume are")
    source = _text(mount.get("Source"), "HostConfig.Mounts.Source") or ""
    if (kind == "bind") != source.startswith("/"):
        raise Invalid(f"createOptions: the mount's source {source!r} does not fit its type {kind!r}")
    return _checked(source, _text(mount.get("Target"), "HostConfig.Mounts.Target") or "", mount.get("ReadOnly") is True)


def _checked(source: str, target: str, is_read_only: bool) -> Bind:
    is_volume = not source.startswith("/")
    if is_volume and not _VOLUME.fullmatch(source):
        raise Invalid(f"createOptions: {source!r} is neither an absolute path nor the name of a volume")
    if not target.startswith("/") or target.strip("/") == "" or ".." in target.split("/"):
        raise Invalid(f"createOptions: {target!r} is not an absolute path in the module")
    return Bind(source, target, is_volume, is_read_only)


def _ports(bindings: Mapping[str, Any]) -> list[PublishedPort]:
    ports = []
    for name, hosts in bindings.items():
        form = _PORT.fullmatch(name)
        if form is None:
            raise Invalid(f"createOptions: {name!r} in HostConfig.PortBindings is not a port such as 5001/tcp")
        for host in _list(hosts, "HostConfig.PortBindings"):
            host = _mapping(host, "HostConfig.PortBindings")
            number = str(host.get("HostPort") or form[1])
            if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
                raise Invalid(f"createOptions: {number!r} is not a port of the host")
            address = _text(host.get("HostIp"), "HostIp") or ""
            ports.append(PublishedPort(int(form[1]), form[2] or "tcp", int(number), address))
    return ports
