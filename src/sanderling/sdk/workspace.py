"""The workspace: where models and images live, and the way to its server."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.sdk.connection import connect
from sanderling.sdk.hints import hinted
from sanderling.sdk.settings import WorkspaceConfig, find_config, read_config, the_running_server, write_config
from sanderling.sdk.wire import endpoint

if TYPE_CHECKING:
    from sanderling.sdk.client import Client
    from sanderling.sdk.image import Image
    from sanderling.sdk.model import Model
    from sanderling.sdk.registry import Registry
    from sanderling.sdk.signing_key import SigningKeyInfo

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{1,30}[a-z0-9])")


class Workspace:
    """One workspace of one server.

    Attributes:
        name: The workspace's name.
        client: The connection to its server.
        url: The server's address.
    """

    def __init__(self, name: str, client: "Client", details: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.client = client
        self._details = dict(details) if details is not None else None

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, url={self.url!r})"

    @property
    def url(self) -> str:
        return self.client.url

    @classmethod
    def from_config(cls, path: Path | str | None = None) -> "Workspace":
        """Open the workspace that a config.json names.

        Args:
            path: The file, or the folder where the search upward begins; None means the working directory.

        Returns:
            The workspace. The server is not asked yet.

        Raises:
            NotFound: There is no config.json.
            Denied: No token is stored for its server.
        """
        config = read_config(find_config(Path(path) if path is not None else None))
        return cls(config.workspace_name, connect(config.url))

    @classmethod
    def create(
        cls, name: str, *, url: str | None = None, client: "Client | None" = None, exist_ok: bool = False
    ) -> "Workspace":
        """Create a workspace.

        Args:
            name: 3 to 32 small letters, digits and dashes.
            url: The server; None means the one that you run on this machine.
            client: A connection to use in place of `url`.
            exist_ok: Return the workspace that has this name already.

        Returns:
            The workspace.

        Raises:
            Invalid: The name cannot be one.
            Conflict: It exists, and `exist_ok` is not set.
        """
        if not NAME.fullmatch(name):
            raise hinted(
                Invalid(
                    f"{name!r} cannot name a workspace: 3 to 32 small letters, digits and dashes, no dash at the ends"
                ),
                "sanderling init --name demo",
            )
        client = client or connect(url or the_running_server().url)
        details = client.call("POST", "/api/v1/workspaces", body={"name": name, "existOk": exist_ok})
        return cls(name, client, details)

    @classmethod
    def get(cls, name: str, *, url: str | None = None, client: "Client | None" = None) -> "Workspace":
        """Open a workspace by name.

        Args:
            name: Its name.
            url: The server; None means the one that you run on this machine.
            client: A connection to use in place of `url`.

        Returns:
            The workspace.

        Raises:
            NotFound: The server has no such workspace.
        """
        client = client or connect(url or the_running_server().url)
        workspace = cls(name, client)
        workspace.refresh()
        return workspace

    @classmethod
    def list(cls, *, url: str | None = None, client: "Client | None" = None) -> Sequence["Workspace"]:
        """List the server's workspaces.

        Args:
            url: The server; None means the one that you run on this machine.
            client: A connection to use in place of `url`.

        Returns:
            The workspaces, by name.
        """
        client = client or connect(url or the_running_server().url)
        answer = client.call("GET", "/api/v1/workspaces")
        entries = answer.get("workspaces", []) if isinstance(answer, dict) else answer
        return [cls(entry["name"], client, entry) for entry in entries]

    def write_config(self, folder: Path | str = ".") -> Path:
        """Write config.json, which `from_config` finds.

        Args:
            folder: Where to write it.

        Returns:
            The file's path.
        """
        return write_config(WorkspaceConfig(self.name, self.url), Path(folder))

    def refresh(self) -> None:
        """Ask the server for the workspace's details again."""
        self._details = self.client.call("GET", endpoint("api", "v1", "workspaces", self.name))

    @property
    def details(self) -> Mapping[str, Any]:
        """What the server says of the workspace: createdAt, loginServer, modelCount, imageCount."""
        if self._details is None:
            self.refresh()
        return self._details or {}

    @property
    def login_server(self) -> str:
        """The registry's host and port, the first part of its images' names."""
        return str(self.details["loginServer"])

    def signing_key(self) -> "SigningKeyInfo":
        """Ask for the public key that the workspace's images are signed with; the server makes it at first use."""
        from sanderling.sdk.signing_key import SigningKeyInfo

        path = endpoint("api", "v1", "workspaces", self.name, "signing-key")
        return SigningKeyInfo.from_json(self.client.call("GET", path))

    @property
    def models(self) -> dict[str, "Model"]:
        """The latest version of each model, by name."""
        from sanderling.sdk.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def images(self) -> dict[str, "Image"]:
        """The latest version of each image, by name."""
        from sanderling.sdk.image import Image

        latest: dict[str, Image] = {}
        for image in Image.list(self):
            if image.name not in latest or image.version > latest[image.name].version:
                latest[image.name] = image
        return latest

    @property
    def registry(self) -> "Registry":
        """The registry, as this workspace sees it."""
        from sanderling.sdk.registry import Registry

        return Registry(self)
