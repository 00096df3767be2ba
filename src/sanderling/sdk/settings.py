"""Where the client finds its server, its workspace and its secrets.

    config.json                     in a project, shared: {"workspace_name", "url"}
    ~/.config/sanderling/           one user's, 0700; SANDERLING_CONFIG_DIR moves it
        credentials.json            0600: per server URL, its CA file and the token, or the file that holds it
        servers.json                0600: the servers that this user runs on this machine
        ca/HOST_PORT.pem            CAs of servers elsewhere
    ~/.cache/sanderling/            what can be made again; SANDERLING_CACHE_DIR moves it

- `SANDERLING_TOKEN` and `SANDERLING_CA` win over what is stored.
- A secret is never in config.json, so config.json may be committed.
- Files are replaced whole, so that a reader sees the old or the new one.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sanderling.durable import write_durably
from sanderling.errors import Denied, Invalid, NotFound
from sanderling.sdk.hints import hinted

CONFIG_NAME = "config.json"
MAX_SETTINGS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """What a config.json says."""

    workspace_name: str
    url: str


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one server: its address, and the secrets for it."""

    url: str
    token: str | None
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server that this user started on this machine."""

    url: str
    ca_file: str
    token_file: str
    pid: int
    data: str = ""


def config_dir() -> Path:
    """The user's folder for Sanderling; it may not exist yet."""
    override = os.environ.get("SANDERLING_CONFIG_DIR")
    if override:
        return Path(override)
    import platformdirs

    return platformdirs.user_config_path("sanderling")


def cache_dir() -> Path:
    """The user's folder for what can be made again, as packages and layers of images; it may not exist yet."""
    override = os.environ.get("SANDERLING_CACHE_DIR")
    if override:
        return Path(override)
    import platformdirs

    return platformdirs.user_cache_path("sanderling")


def find_config(start: Path | None = None) -> Path:
    """Find config.json in *start* or the nearest folder above it.

    Args:
        start: A folder, or the file itself; None means the working directory.

    Returns:
        The file's path.

    Raises:
        NotFound: There is none up to the root.
    """
    origin = (start or Path.cwd()).absolute()
    if origin.is_file():
        return origin
    for folder in (origin, *origin.parents):
        candidate = folder / CONFIG_NAME
        if candidate.is_file():
            return candidate
    raise hinted(
        NotFound(f"no {CONFIG_NAME} in {origin} or any folder above it"),
        "sanderling init --name WORKSPACE",
    )


def read_config(path: Path) -> WorkspaceConfig:
    """Read one config.json.

    Raises:
        Invalid: It is not JSON, or lacks `workspace_name` or `url`.
    """
    values = _read_json(path)
    name, url = values.get("workspace_name"), values.get("url")
    if not isinstance(name, str) or not isinstance(url, str):
        raise hinted(Invalid(f'{path} lacks "workspace_name" or "url"'), "sanderling init --name WORKSPACE")
    return WorkspaceConfig(name, url)


def write_config(config: WorkspaceConfig, folder: Path) -> Path:
    """Write config.json into *folder* and return its path."""
    path = folder / CONFIG_NAME
    _write(path, json.dumps(asdict(config), indent=4) + "\n", mode=0o644)
    return path


def remember(url: str, *, ca_file: Path | None, token: str | None = None, token_file: Path | None = None) -> None:
    """Store the secrets for *url*, readable by the owner alone.

    Args:
        url: The server's address.
        ca_file: The CA file that its certificate is checked against.
        token: The token itself, for a server elsewhere.
        token_file: The file that holds it, for a server of this user on this machine.
    """
    entry = {
        "ca_file": str(ca_file) if ca_file else None,
        "token": token,
        "token_file": str(token_file) if token_file else None,
    }

    def change(values: dict[str, Any]) -> None:
        values.setdefault("servers", {})[url] = {key: value for key, value in entry.items() if value}

    _change(config_dir() / "credentials.json", change)


def connection_to(url: str) -> Connection:
    """Return how to reach *url*: from the environment, the stored credentials, or a running server's record.

    Raises:
        Denied: No token is known for it.
    """
    stored = _read_json(config_dir() / "credentials.json", missing_ok=True).get("servers", {}).get(url, {})
    record = next((r for r in running_servers() if r.url == url), None)
    ca = os.environ.get("SANDERLING_CA") or (record.ca_file if record else None) or stored.get("ca_file")
    token = os.environ.get("SANDERLING_TOKEN") or stored.get("token")
    token_file = (record.token_file if record else None) or stored.get("token_file")
    if not token and token_file:
        token = _read_secret(Path(token_file))
    if not token:
        raise hinted(Denied(f"not signed in to {url}"), f"sanderling init --url {url} --name WORKSPACE")
    return Connection(url, token, Path(ca) if ca else None)


def running_servers() -> Sequence[ServerRecord]:
    """The servers that this user runs on this machine, the latest first."""
    values = _read_json(config_dir() / "servers.json", missing_ok=True)
    records = [ServerRecord(**entry) for entry in values.get("servers", []) if _is_record(entry)]
    return [record for record in records if _is_alive(record.pid)]


def record_server(record: ServerRecord) -> None:
    """Note that a server runs here; records of ended servers are dropped."""

    def change(values: dict[str, Any]) -> None:
        others = [e for e in values.get("servers", []) if _is_record(e) and e["url"] != record.url]
        values["servers"] = [asdict(record), *(e for e in others if _is_alive(e["pid"]))]

    _change(config_dir() / "servers.json", change)


def forget_server(pid: int) -> None:
    """Drop the record of the server with this process id."""

    def change(values: dict[str, Any]) -> None:
        values["servers"] = [e for e in values.get("servers", []) if _is_record(e) and e["pid"] != pid]

    _change(config_dir() / "servers.json", change)


def the_running_server() -> ServerRecord:
    """The one server to use when none is named: the latest that this user started.

    Raises:
        NotFound: None runs.
    """
    servers = running_servers()
    if not servers:
        raise hinted(
            NotFound("no server of yours runs on this machine"),
            "sanderling up, in another terminal",
            "or name one elsewhere: --url https://HOST:PORT",
        )
    return servers[0]


def keep_ca(url: str, pem: bytes) -> Path:
    """Keep the CA of a server elsewhere and return the file's path."""
    name = url.split("://", 1)[-1].replace(":", "_").replace("[", "").replace("]", "")
    path = config_dir() / "ca" / f"{name}.pem"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(path, pem.decode(errors="replace"), mode=0o600)
    return path


def _is_record(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) >= {"url", "ca_file", "token_file", "pid"}
        and set(entry) <= set(ServerRecord.__slots__)
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_secret(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Denied(f"{path} cannot be read: {error.strerror}") from error


def _read_json(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SETTINGS_BYTES + 1)
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise NotFound(f"{path} is not there") from None
    except OSError as error:
        raise Denied(f"{path} cannot be read: {error.strerror}") from error
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise hinted(Invalid(f"{path} is not JSON: {error}"), "mend or remove that file") from error
    if not isinstance(values, dict):
        raise hinted(Invalid(f"{path} holds no JSON object"), "mend or remove that file")
    return values


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path):
        values = _read_json(path, missing_ok=True)
        change(values)
        _write(path, json.dumps(values, indent=2) + "\n", mode=0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str, *, mode: int) -> None:
    try:
        write_durably(path, text.encode(), mode)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error
