"""Joins what an image and createOptions say of a module's process: pure, from values to a command."""

import re
from collections.abc import Mapping
from pathlib import Path

from sanderling.edge.engines.create_options import CreateOptions
from sanderling.errors import Invalid
from sanderling.oci import ImageConfig
from sanderling.sandbox.bubblewrap import DEFAULT_PATH, Command, find_user

PORT_VARIABLE_LABEL = "io.sanderling.port-variable"


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
