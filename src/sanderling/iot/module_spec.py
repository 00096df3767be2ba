"""One module of a deployment manifest."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sanderling.errors import Invalid
from sanderling.iot import documents

Json = dict[str, Any]
STATUSES = ("running", "stopped")
RESTART_POLICIES = ("never", "on-failure", "on-unhealthy", "always")
PULL_POLICIES = ("on-create", "never")
# Twin keys hold no dot, dollar or space; engines and file systems want no more than these.
_MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_CREATE_OPTIONS = re.compile(r"createOptions([0-9]{0,2})")
_CHUNK_CHARS = 4000
_KNOWN = {"version", "type", "status", "restartPolicy", "settings", "env", "startupOrder", "imagePullPolicy"}


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """What shall run: *create_options* is the body of Docker's ``POST /containers/create``, parsed.

    Two specs are equal when a device need not do anything to go from one to the other. *unknown* fields survive a
    round trip and do not count.
    """

    name: str
    image: str
    version: str = ""
    type: str = "docker"
    status: str = "running"
    restart_policy: str = "always"
    create_options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    startup_order: int = 2**32 - 1
    pull_policy: str = "on-create"
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    unknown_settings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def to_json(self) -> Json:
        """Return the module as a manifest has it; long create options are cut into numbered pieces."""
        text = documents.compact(self.create_options).decode()
        pieces = [text[at : at + _CHUNK_CHARS] for at in range(0, len(text), _CHUNK_CHARS)]
        chunks = {f"createOptions{n:02}" if n else "createOptions": piece for n, piece in enumerate(pieces)}
        return {
            **self.unknown,
            "version": self.version,
            "type": self.type,
            "status": self.status,
            "restartPolicy": self.restart_policy,
            "startupOrder": self.startup_order,
            "imagePullPolicy": self.pull_policy,
            "env": {name: {"value": value} for name, value in self.env.items()},
            "settings": {**self.unknown_settings, "image": self.image, **chunks},
        }


def parse_module(name: str, document: Any, *, is_system: bool = False) -> ModuleSpec:
    """Read the module *name*. Raises Invalid, naming the module and the field."""
    where = f"module {name!r}"
    if not _MODULE_NAME.fullmatch(name):
        raise Invalid(f"{name[:140]!r} cannot name a module: use A-Z a-z 0-9 _ and -, at most 128")
    document = section(document, where)
    settings = section(document.get("settings") or {}, f"{where}: settings")
    image = text_at(settings, "image", where, default="" if is_system else None).strip()
    if not image and not is_system:
        raise Invalid(f"{where}: 'settings.image' is empty")
    chunks = {key for key in settings if _CREATE_OPTIONS.fullmatch(key)}
    return ModuleSpec(
        name=name,
        image=image,
        version=text_at(document, "version", where, default=""),
        type=_choice(document, "type", where, ("docker",), "docker"),
        status=_choice(document, "status", where, STATUSES, "running"),
        restart_policy=_choice(document, "restartPolicy", where, RESTART_POLICIES, "always"),
        create_options=_create_options(settings, where),
        env=_env(document.get("env") or {}, where),
        startup_order=_startup_order(document, where),
        pull_policy=_choice(document, "imagePullPolicy", where, PULL_POLICIES, "on-create"),
        unknown={key: value for key, value in document.items() if key not in _KNOWN},
        unknown_settings={key: value for key, value in settings.items() if key != "image" and key not in chunks},
    )


def section(value: Any, where: str) -> Mapping[str, Any]:
    """Return *value*; raise Invalid when it is not a JSON object."""
    if not isinstance(value, Mapping):
        raise Invalid(f"{where} is not a JSON object")
    return value


def text_at(document: Mapping[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    """Return the text at *key*; raise Invalid when it is something else, or missing without a *default*."""
    value = document.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Invalid(f"{where}: {key!r} is {'missing' if value is None else 'not text'}")
    return value


def check_schema_version(desired: Mapping[str, Any], where: str, *, major: int, minor: int) -> None:
    """Raise Invalid when ``schemaVersion`` is missing, or of a version that we do not understand."""
    text = text_at(desired, "schemaVersion", where)
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})(\.[0-9]{1,4})?", text)
    if not found or int(found[1]) != major or int(found[2]) > minor:
        raise Invalid(f"{where}: schemaVersion {text[:20]!r} is not one of {major}.0 to {major}.{minor}")


def _choice(document: Mapping[str, Any], key: str, where: str, known: tuple[str, ...], default: str) -> str:
    value = text_at(document, key, where, default=default)
    if value.lower() not in known:
        raise Invalid(f"{where}: {key!r} is one of {', '.join(known)}, not {value[:40]!r}")
    return value.lower()


def _create_options(settings: Mapping[str, Any], where: str) -> Json:
    first = settings.get("createOptions")
    if isinstance(first, Mapping):
        return dict(first)
    chunks = sorted(
        (int(found[1] or 0), value) for key, value in settings.items() if (found := _CREATE_OPTIONS.fullmatch(key))
    )
    if not all(isinstance(value, str) or value is None for _, value in chunks):
        raise Invalid(f"{where}: 'createOptions' is not text")
    if [number for number, _ in chunks] != list(range(len(chunks))):
        raise Invalid(f"{where}: a piece of 'createOptions' is missing")
    text = "".join(value or "" for _, value in chunks)
    return documents.parse_object(text, f"{where}: 'createOptions'") if text.strip() else {}


def _env(values: Any, where: str) -> dict[str, str]:
    env = {}
    for name, entry in section(values, f"{where}: env").items():
        if not name or "=" in name or "\0" in name:
            raise Invalid(f"{where}: {name[:60]!r} cannot name an environment variable")
        value = section(entry, f"{where}: env {name[:60]!r}").get("value")
        if not isinstance(value, str | int | float) or (isinstance(value, str) and "\0" in value):
            raise Invalid(f"{where}: env {name[:60]!r} has no 'value' of text, number or true/false")
        env[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return env


def _startup_order(document: Mapping[str, Any], where: str) -> int:
    value = document.get("startupOrder", 2**32 - 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise Invalid(f"{where}: 'startupOrder' is a whole number from 0 to 4294967295")
    return value
