"""Reach a registry as the user does: as whom, and whom to trust.

The account is the one given, or that of the workspace's server for its own
registry, or what Docker and Podman keep. Trusted are the system's CAs, our own
server's for its registry, and what Docker and Podman were told to trust there.
"""

import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.oci import Reference
from sanderling.sdk.image_copy import Side
from sanderling.sdk.registry_auth import RegistryAccount, find_account
from sanderling.sdk.settings import connection_to
from sanderling.transfer import Credential, RegistryClient
from sanderling.transfer.places import Address

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace

# Where Docker and Podman look for the CA of one registry.
CERTIFICATE_FOLDERS = ("/etc/docker/certs.d", "/etc/containers/certs.d", "~/.config/containers/certs.d")


def address_of(reference: Reference) -> Address:
    """*reference* as the address of its registry."""
    return Address(
        "registry", str(reference), "", None, reference.registry, reference.repository, reference.tag or "latest"
    )


class RegistryAccess:
    """Finds, for one side, who one is at a registry and whom to trust there."""

    def __init__(self, side: Side, workspace: "Workspace | None") -> None:
        self.side, self._workspace, self._has_looked = side, workspace, workspace is not None

    def client(self, address: Address) -> RegistryClient:
        """Return the client for a registry's repository. Blocks: it may ask programs, and the workspace's server."""
        registry, repository = address.registry, address.repository
        account = self.side.account or self._account(registry, repository)
        known = None if account is None else Credential(account.username, account.password, account.identity_token)
        return RegistryClient(
            registry, repository, known, tls=self._trust(registry), is_plain_http=self.side.is_plain_http
        )

    def _account(self, registry: str, repository: str) -> RegistryAccount | None:
        workspace = self._the_workspace()
        is_server = workspace is not None and urlsplit(workspace.url).netloc == registry
        if is_server and workspace is not None and repository.startswith(f"{workspace.name}/"):
            return self._login(workspace)
        found = find_account(registry, repository)
        if found is not None or workspace is None:
            return found
        # Its registry may have another name than the server was reached by.
        with suppress(Unavailable):
            if is_server or workspace.login_server == registry:
                return self._login(workspace)
        return None

    def _login(self, workspace: "Workspace") -> RegistryAccount:
        made = workspace.registry.login()
        return RegistryAccount(made.username, made.password)

    def _the_workspace(self) -> "Workspace | None":
        if not self._has_looked:
            from sanderling.sdk.workspace import Workspace

            self._has_looked = True
            with suppress(SanderlingError):
                self._workspace = Workspace.from_config()
        return self._workspace

    def _trust(self, registry: str) -> ssl.SSLContext:
        """Return the system's trust, with the CA of our own server for its registry, and Docker's files for others."""
        context = ssl.create_default_context()
        for file in self._ca_files(registry):
            try:
                context.load_verify_locations(cafile=str(file))
            except (OSError, ssl.SSLError) as error:
                raise Invalid(f"the CA file {file} for {registry} cannot be read: {error}") from error
        return context

    def _ca_files(self, registry: str) -> Sequence[Path]:
        found: list[Path] = []
        workspace = self._the_workspace()
        if workspace is not None and workspace.client.ca_file is not None:
            hosts = {urlsplit(workspace.url).netloc}
            with suppress(SanderlingError):
                hosts |= {workspace.login_server} if registry not in hosts else set()
            found += [workspace.client.ca_file] if registry in hosts else []
        with suppress(SanderlingError):
            if not found and (ca_file := connection_to(f"https://{registry}").ca_file) is not None:
                found.append(ca_file)
        for folder in CERTIFICATE_FOLDERS:
            found += sorted((Path(folder).expanduser() / registry).glob("*.crt"))
        return found
