"""Find the credentials that Docker, Podman and skopeo keep for a registry.

    $REGISTRY_AUTH_FILE
    $XDG_RUNTIME_DIR/containers/auth.json      podman login, skopeo login
    ~/.config/containers/auth.json
    $DOCKER_CONFIG/config.json, ~/.docker/config.json

In a file, `credHelpers` and `credsStore` name programs that are asked
(`docker-credential-NAME get`), and `auths` holds the rest. The most specific
entry counts: `host/a/b` before `host/a` before `host`. Files are read, never
written; what they hold is never shown.
Sources: docker's `config.json`; containers-auth.json(5); docker-credential-helpers.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.errors import Denied, Invalid
from sanderling.sdk.hints import hinted

MAX_FILE_BYTES = 4 << 20
HELPER_S = 30.0
# What docker login calls Docker's own registry.
_DOCKER_HUB = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class RegistryAccount:
    """A user of a registry.

    Attributes:
        username: The user's name.
        password: Its password. It is a secret.
        identity_token: What `docker login` may keep in place of a password. It is a secret.
    """

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


def find_account(registry: str, repository: str) -> RegistryAccount | None:
    """Return the stored credential for a repository, or None.

    Args:
        registry: `host[:port]`, or docker.io.
        repository: The repository's name.

    Returns:
        The first that a file has.

    Raises:
        Invalid: A file cannot be read as what it should be.
        Denied: A credential program failed.
    """
    for path in auth_files():
        config = _read(path)
        if config is not None and (found := _in_config(config, registry, repository, path)) is not None:
            return found
    return None


def read_account(text: str, where: str) -> RegistryAccount:
    """Read `user:password`, as a file given by the user holds it; a line end at its end does not count.

    Raises:
        Invalid: There is no colon in it.
    """
    user, colon, password = text.rstrip("\r\n").partition(":")
    if not colon or not user or "\n" in password:
        raise Invalid(f"{where} does not hold user:password in one line")
    return RegistryAccount(user, password)


def auth_files() -> Iterator[Path]:
    """Yield where credentials may be, in the order in which they are looked for."""
    home = Path.home()
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    try:
        values = json.loads(raw) if len(raw) <= MAX_FILE_BYTES else None
    except (ValueError, RecursionError) as error:
        raise hinted(Invalid(f"{path} is not JSON"), "mend or remove that file") from error
    if not isinstance(values, dict):
        raise hinted(Invalid(f"{path} holds no JSON object"), "mend or remove that file")
    return values


def _in_config(config: dict[str, Any], registry: str, repository: str, path: Path) -> RegistryAccount | None:
    helpers, auths = _object(config, "credHelpers"), _object(config, "auths")
    hosts = [registry, *(_DOCKER_HUB if registry == "docker.io" else ())]
    for host in hosts:
        program = helpers.get(host)
        if isinstance(program, str) and (found := _ask(program, host, path)) is not None:
            return found
    store = config.get("credsStore")
    if isinstance(store, str) and store:
        for host in _DOCKER_HUB[:1] if registry == "docker.io" else (registry, f"https://{registry}"):
            if (found := _ask(store, host, path)) is not None:
                return found
    entries = {_plain(key): value for key, value in auths.items() if isinstance(value, dict)}
    for key in [*_namespaces(registry, repository), *map(_plain, hosts)]:
        if key in entries and (account := _account(entries[key], path)) is not None:
            return account
    return None


def _object(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _namespaces(registry: str, repository: str) -> Iterator[str]:
    """Yield `host/a/b`, `host/a`: Podman keeps credentials for parts of a registry too."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join([registry, *parts[:count]])


def _plain(key: str) -> str:
    """Return an entry's name without scheme, and without the version that docker login may add."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _account(entry: dict[str, Any], path: Path) -> RegistryAccount | None:
    identity = entry.get("identitytoken")
    user, password = entry.get("username"), entry.get("password")
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            text = base64.b64decode(packed, validate=False).decode()
        except ValueError as error:
            raise hinted(Invalid(f"{path} holds a damaged credential"), "docker login, again") from error
        user, _, password = text.partition(":")
        password = password.rstrip("\0")
    if isinstance(identity, str) and identity:
        return RegistryAccount(user if isinstance(user, str) else "", "", identity)
    if isinstance(user, str) and user and isinstance(password, str):
        return RegistryAccount(user, password)
    return None


def _ask(program: str, host: str, path: Path) -> RegistryAccount | None:
    """Ask `docker-credential-PROGRAM`; None when it knows nothing of *host*."""
    if not _HELPER.fullmatch(program):
        raise Invalid(f"{path} names {program[:50]!r}, which is no credential program")
    name = f"docker-credential-{program}"
    try:
        done = subprocess.run([name, "get"], input=host, capture_output=True, text=True, timeout=HELPER_S, check=False)
    except FileNotFoundError:
        raise hinted(Denied(f"{path} names the program {name}, which is not installed"), f"install {name}") from None
    except (OSError, UnicodeError, subprocess.TimeoutExpired) as error:
        raise Denied(f"{name} gave no credential for {host}: {type(error).__name__}") from error
    if done.returncode != 0:
        if "not found" in (done.stdout + done.stderr).lower():
            return None
        said = (done.stdout or done.stderr).strip().splitlines()
        raise Denied(f"{name} gave no credential for {host}: {said[0][:200] if said else 'no reason given'}")
    try:
        values = json.loads(done.stdout[:MAX_FILE_BYTES])
        user, secret = values["Username"], values["Secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise Denied(f"{name} answered for {host}, but not with a credential") from error
    if not isinstance(user, str) or not isinstance(secret, str):
        raise Denied(f"{name} answered for {host}, but not with a credential")
    return RegistryAccount("", "", secret) if user == _TOKEN_USER else RegistryAccount(user, secret)
