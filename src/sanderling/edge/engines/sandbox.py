"""Says how bubblewrap is called for a module: pure, from values to arguments.

The sandbox: read-only root, /tmp, /run and /dev/shm in memory, a minimal /dev, a
/proc of its own, new process, IPC and host-name namespaces, no capability, a
user namespace with the image's user and nobody else; the host's network.

Variables go through `--args FD`, not the command line: they may hold secrets.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sanderling.edge.engines.create_options import CreateOptions
from sanderling.edge.rootfs import resolve_inside
from sanderling.errors import Invalid
from sanderling.oci import ImageConfig

PORT_VARIABLE_LABEL = "io.sanderling.port-variable"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class User:
    """Who the process is inside the sandbox."""

    uid: int
    gid: int
    home: str = "/"


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind of a path that bubblewrap can reach, onto a resolved path in the root."""

    source: str
    target: str
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class File:
    """Content, by file descriptor, that is shown read-only at a resolved path in the root."""

    fd: int
    target: str


@dataclass(frozen=True, slots=True)
class Command:
    """What runs in the sandbox."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str
    user: User
    hostname: str


def arguments(root: str, command: Command, mounts: Sequence[Mount], files: Sequence[File]) -> list[str]:
    """Return bubblewrap's options, without the program that runs inside."""
    options = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    options += ["--uid", str(command.user.uid), "--gid", str(command.user.gid), "--hostname", command.hostname]
    options += ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/run", "/dev/shm"):
        options += ["--perms", "1777", "--tmpfs", folder]
    for file in files:
        options += ["--perms", "0444", "--ro-bind-data", str(file.fd), f"/{file.target}"]
    for mount in mounts:
        options += ["--ro-bind" if mount.is_read_only else "--bind", mount.source, f"/{mount.target}"]
    options += ["--clearenv"]
    for name, value in command.environment.items():
        options += ["--setenv", name, value]
    return [*options, "--chdir", command.working_dir]


def command_of(
    name: str, config: ImageConfig, options: CreateOptions, environment: Mapping[str, str], root: Path
) -> Command:
    """Join the image's config and createOptions as Docker does; raise `Invalid` when nothing is to run.

    An entrypoint given in createOptions drops the image's Cmd.
    """
    entrypoint = config.entrypoint if options.entrypoint is None else options.entrypoint
    cmd = options.cmd if options.cmd is not None else (config.cmd if options.entrypoint is None else ())
    argv = (*entrypoint, *cmd)
    if not argv:
        raise Invalid(f"module {name!r}: neither the image nor createOptions name a command to run")
    user = find_user(options.user if options.user is not None else config.user, root)
    variables = {"PATH": DEFAULT_PATH, "HOME": user.home, "HOSTNAME": hostname_of(name)}
    variables |= config.variables | dict(options.env) | dict(environment)
    for variable, value in variables.items():
        if not variable or "=" in variable or "\0" in variable + value:
            raise Invalid(f"module {name!r}: {variable[:100]!r} cannot be an environment variable")
    working_dir = options.working_dir or config.working_dir or "/"
    return Command(argv, variables, working_dir, user, hostname_of(name))


def hostname_of(name: str) -> str:
    """Return a host name for the module *name*."""
    return re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")[:63] or "module"


def port_variables(name: str, config: ImageConfig, options: CreateOptions, free_port: int) -> dict[str, str]:
    """Return the variables that put the module's port where createOptions want it.

    Modules share the host's network, so a port cannot be mapped: an image that
    says (`io.sanderling.port-variable`) which variable moves its port is told.
    One that publishes nothing is put on *free_port* of the loopback address, so
    that two modules with the same default port do not collide. Raises `Invalid`
    for a mapping that cannot be honoured.
    """
    variable = config.labels.get(PORT_VARIABLE_LABEL)
    if variable is None:
        for port in options.ports:
            if port.container_port != port.host_port:
                raise Invalid(
                    f"module {name!r}: port {port.container_port} cannot be published on {port.host_port}: the "
                    f"bubblewrap engine shares the host's network and the image has no label {PORT_VARIABLE_LABEL}; "
                    f"publish it on {port.container_port}, or use Docker"
                )
        return {}
    if not options.ports:
        return {variable: str(free_port)} | _host_variable(variable, "127.0.0.1")
    if len(options.ports) > 1:
        raise Invalid(
            f"module {name!r}: the bubblewrap engine publishes one port of a module, not {len(options.ports)}"
        )
    port = options.ports[0]
    return {variable: str(port.host_port)} | _host_variable(variable, port.host_address)


def _host_variable(variable: str, address: str) -> dict[str, str]:
    # The scoring server's pair of variables; others have no name for the address that we know.
    return {"SERVER_HOST": address} if variable == "SERVER_PORT" and address else {}


def find_user(text: str, root: Path) -> User:
    """Return who `user[:group]` of an image config is, names looked up in *root*; raise `Invalid`."""
    name, _, group = text.partition(":")
    rows = _rows(root, "etc/passwd")
    if not name:
        uid, own_gid, home = 0, 0, "/root"
    else:
        row = next((r for r in rows if len(r) >= 6 and name in (r[0], r[2])), None)
        if row is not None:
            uid, own_gid, home = _number(row[2], text), _number(row[3], text), row[5] or "/"
        else:
            uid, own_gid, home = _number(name, text), 0, "/"
    gid = own_gid
    if group:
        row = next((r for r in _rows(root, "etc/group") if len(r) >= 3 and group == r[0]), None)
        gid = _number(row[2] if row else group, text)
    return User(uid, gid, home)


def _number(text: str, user: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32 - 1:
        raise Invalid(f"the image's user {user[:100]!r} is neither a number nor known in its /etc/passwd")
    return int(text)


def _rows(root: Path, name: str) -> list[list[str]]:
    path = root / resolve_inside(root, name)
    try:
        with path.open("rb") as file:
            text = file.read(1024 * 1024).decode("utf-8", "replace")
    except OSError:
        return []
    return [line.split(":") for line in text.splitlines()]
