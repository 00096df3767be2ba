"""Deployment manifests: what shall run on a device, and how its messages flow.

Rules: a manifest is checked whole before anything of it is used; what we do not know is kept and written out again;
a message names the module or route that is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Invalid
from sanderling.iot.identity import EDGE_AGENT, EDGE_HUB, check_id
from sanderling.iot.module_spec import ModuleSpec, check_schema_version, parse_module, section, text_at
from sanderling.iot.routes import LOWEST_PRIORITY, Route

__all__ = ["AgentConfig", "DeploymentManifest", "HubConfig", "ModuleSpec", "RegistryCredential", "RouteSpec"]

Json = dict[str, Any]
_DESIRED = "properties.desired"
DEFAULT_TTL_S = 7200


@dataclass(frozen=True, slots=True)
class RegistryCredential:
    """How to sign in to the registry at *address* (``registry.local:8443``)."""

    name: str
    address: str
    username: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, name: str, document: Any) -> "RegistryCredential":
        """Read one entry of registryCredentials. Raises Invalid."""
        where = f"registry credentials {name!r}"
        document = section(document, where)
        address, username, password = (text_at(document, key, where) for key in ("address", "username", "password"))
        if not address:
            raise Invalid(f"{where}: 'address' is empty")
        return cls(name, address, username, password)

    def to_json(self) -> Json:
        """Return the entry, secret included."""
        return {"address": self.address, "username": self.username, "password": self.password}


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The desired properties of $edgeAgent."""

    modules: Mapping[str, ModuleSpec]
    system_modules: Mapping[str, ModuleSpec]
    registry_credentials: tuple[RegistryCredential, ...]
    raw: Json = field(repr=False)

    @classmethod
    def parse(cls, desired: Any) -> "AgentConfig":
        """Read desired properties (``$version`` and unknown fields may be there). Raises Invalid."""
        desired = section(desired, EDGE_AGENT)
        check_schema_version(desired, EDGE_AGENT, major=1, minor=1)
        runtime = section(desired.get("runtime", {}), "runtime")
        settings = section(runtime.get("settings", {}), "runtime.settings")
        credentials = section(settings.get("registryCredentials") or {}, "registryCredentials")
        system = section(desired.get("systemModules") or {}, "systemModules")
        if unknown := set(system) - {"edgeAgent", "edgeHub"}:
            raise Invalid(f"systemModules are edgeAgent and edgeHub; {sorted(unknown)[0]!r} belongs into modules")
        modules = section(desired.get("modules") or {}, "modules")
        return cls(
            {name: parse_module(name, value) for name, value in modules.items()},
            {name: parse_module(name, value, is_system=True) for name, value in system.items()},
            tuple(RegistryCredential.parse(name, value) for name, value in credentials.items()),
            dict(desired),
        )

    @classmethod
    def build(
        cls, modules: Mapping[str, ModuleSpec], registry_credentials: tuple[RegistryCredential, ...] = ()
    ) -> "AgentConfig":
        """Return the configuration that runs *modules*."""
        credentials = {credential.name: credential.to_json() for credential in registry_credentials}
        settings: Json = {"minDockerVersion": "v1.25", "loggingOptions": "", "registryCredentials": credentials}
        raw: Json = {
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": settings},
            "systemModules": {},
            "modules": {name: spec.to_json() for name, spec in modules.items()},
        }
        return cls.parse(raw)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route with its priority (0 first) and time to live (None: the edge hub's own)."""

    name: str
    route: Route
    priority: int = LOWEST_PRIORITY
    ttl_s: int | None = None

    @classmethod
    def parse(cls, name: str, document: Any) -> "RouteSpec":
        """Read a route, as text or as an object with priority and timeToLiveSecs. Raises Invalid."""
        where = f"route {name!r}"
        fields = {"route": document} if isinstance(document, str) else section(document, where)
        priority = _whole(fields.get("priority", LOWEST_PRIORITY), f"{where}: 'priority'")
        ttl_s = _whole(fields.get("timeToLiveSecs", 0), f"{where}: 'timeToLiveSecs'")
        try:
            route = Route.parse(text_at(fields, "route", where))
        except Invalid as error:
            raise Invalid(f"{where}: {error.message}") from error
        return cls(name, route, priority, ttl_s or None)


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The desired properties of $edgeHub. *ttl_s* None means that messages are kept for ever."""

    routes: tuple[RouteSpec, ...]
    ttl_s: int | None
    max_store_bytes: int | None
    raw: Json = field(repr=False)

    @classmethod
    def parse(cls, desired: Any) -> "HubConfig":
        """Read desired properties (``$version`` and unknown fields may be there). Raises Invalid."""
        desired = section(desired, EDGE_HUB)
        check_schema_version(desired, EDGE_HUB, major=1, minor=3)
        routes = section(desired.get("routes") or {}, "routes")
        store = section(desired.get("storeAndForwardConfiguration") or {}, "storeAndForwardConfiguration")
        ttl_s = _whole(store.get("timeToLiveSecs", DEFAULT_TTL_S), "timeToLiveSecs", least=None)
        limits = section(store.get("storeLimits") or {}, "storeLimits")
        max_bytes = limits.get("maxSizeBytes")
        return cls(
            tuple(RouteSpec.parse(name, value) for name, value in routes.items()),
            None if ttl_s < 0 else ttl_s,
            None if max_bytes is None else _whole(max_bytes, "maxSizeBytes"),
            dict(desired),
        )

    @classmethod
    def build(cls, routes: Mapping[str, str], ttl_s: int = DEFAULT_TTL_S) -> "HubConfig":
        """Return the configuration with *routes* by name."""
        store = {"timeToLiveSecs": ttl_s}
        return cls.parse({"schemaVersion": "1.1", "routes": dict(routes), "storeAndForwardConfiguration": store})


@dataclass(frozen=True, slots=True)
class DeploymentManifest:
    """A whole manifest. *twins* are the desired properties of every module it names, system modules included."""

    agent: AgentConfig | None
    hub: HubConfig | None
    twins: Mapping[str, Json] = field(repr=False)
    raw: Json = field(repr=False)

    @classmethod
    def parse(cls, content: Any) -> "DeploymentManifest":
        """Read ``{"modulesContent": {...}}``, bare or under ``content``. Raises Invalid; nothing is half parsed."""
        content = section(content, "the manifest")
        if "modulesContent" not in content and "content" in content:
            content = section(content["content"], "content")
        if "modulesContent" not in content:
            raise Invalid("the manifest lacks 'modulesContent'")
        modules = section(content["modulesContent"], "modulesContent")
        twins: dict[str, Json] = {}
        for name, value in modules.items():
            check_id("module", name)
            twins[name] = _desired_of(name, section(value, name))
        agent = AgentConfig.parse(twins[EDGE_AGENT]) if EDGE_AGENT in twins else None
        hub = HubConfig.parse(twins[EDGE_HUB]) if EDGE_HUB in twins else None
        return cls(agent, hub, twins, dict(content))

    @classmethod
    def build(
        cls, agent: AgentConfig, hub: HubConfig, module_twins: Mapping[str, Mapping[str, Any]] | None = None
    ) -> "DeploymentManifest":
        """Return the manifest of these parts; *module_twins* are desired properties by module."""
        content: Json = {name: {_DESIRED: dict(desired)} for name, desired in (module_twins or {}).items()}
        content |= {EDGE_AGENT: {_DESIRED: agent.raw}, EDGE_HUB: {_DESIRED: hub.raw}}
        return cls.parse({"modulesContent": content})

    def to_json(self) -> Json:
        """Return the manifest as it was given, unknown fields included."""
        return self.raw

    def images(self) -> Mapping[str, str]:
        """Return the image reference of every module that the device runs, by module name."""
        return {} if self.agent is None else {name: spec.image for name, spec in self.agent.modules.items()}


def _desired_of(name: str, content: Mapping[str, Any]) -> Json:
    dotted = [key for key in content if key.startswith(f"{_DESIRED}.")]
    if dotted:
        raise Invalid(f"{name}: {dotted[0]!r} is of a layered deployment; a single device takes a whole manifest")
    if _DESIRED not in content:
        raise Invalid(f"{name}: 'properties.desired' is missing")
    return dict(section(content[_DESIRED], f"{name}: properties.desired"))


def _whole(value: Any, where: str, *, least: int | None = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value > 2**32 or (least is not None and value < least):
        raise Invalid(f"{where} is a whole number{'' if least is None else f' from {least}'}, not {str(value)[:40]!r}")
    return value
