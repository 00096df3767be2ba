"""Connection strings: ``HostName=...;DeviceId=...;SharedAccessKey=...`` as a value."""

import re
from dataclasses import dataclass, field

from sanderling.errors import Invalid
from sanderling.iot.identity import check_id

_MAX_CHARS = 4096
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_NAMES = {
    "HostName": "host_name",
    "DeviceId": "device_id",
    "ModuleId": "module_id",
    "SharedAccessKey": "shared_access_key",
    "SharedAccessKeyName": "shared_access_key_name",
    "GatewayHostName": "gateway_host_name",
}


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """Where a hub is and who we are there. *host_name* may hold the port of HTTPS (``localhost:8443``)."""

    host_name: str
    device_id: str | None = None
    module_id: str | None = None
    shared_access_key: str | None = field(default=None, repr=False)
    shared_access_key_name: str | None = None
    gateway_host_name: str | None = None
    unknown: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> "ConnectionString":
        """Read a connection string. Raises Invalid, with a message that never holds a value of a secret field."""
        if len(text) > _MAX_CHARS:
            raise Invalid(f"a connection string of {len(text)} characters is too long; was it copied whole and once?")
        known: dict[str, str] = {}
        unknown: list[tuple[str, str]] = []
        seen: set[str] = set()
        for part in text.strip().split(";"):
            if not part:
                continue
            name, equals, value = part.partition("=")
            if not equals or not value:
                raise Invalid("a connection string is made of Name=value parts with ';' between; one part is not")
            if name in seen:
                raise Invalid(f"the connection string holds {name[:40]!r} twice")
            seen.add(name)
            if name in _NAMES:
                known[_NAMES[name]] = value
            else:
                unknown.append((name, value))
        return cls._checked(known, tuple(unknown))

    @classmethod
    def _checked(cls, known: dict[str, str], unknown: tuple[tuple[str, str], ...]) -> "ConnectionString":
        if "host_name" not in known:
            raise Invalid("the connection string lacks HostName=")
        if "module_id" in known and "device_id" not in known:
            raise Invalid("the connection string has ModuleId= but lacks DeviceId=")
        for name, kind in (("device_id", "device"), ("module_id", "module")):
            if name in known:
                check_id(kind, known[name])
        parsed = cls(**known, unknown=unknown)
        _split_host(parsed.host_name)
        return parsed

    @property
    def host(self) -> str:
        """The host without its port."""
        return _split_host(self.host_name)[0]

    @property
    def https_port(self) -> int:
        """The port of HTTPS: what HostName holds, or 443."""
        return _split_host(self.host_name)[1] or 443

    def format(self) -> str:
        """Return the text, secret included."""
        values = [(name, getattr(self, attribute)) for name, attribute in _NAMES.items()]
        return ";".join(f"{name}={value}" for name, value in [*values, *self.unknown] if value is not None)


def _split_host(text: str) -> tuple[str, int | None]:
    found = _HOST.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or (port is not None and not 0 < port < 65536):
        raise Invalid(f"HostName={text[:100]!r} is not a host name with an optional port")
    return found["host"].strip("[]"), port
