"""The registry as a workspace sees it: what is in it, and who may pull."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sanderling.errors import Invalid
from sanderling.sdk.registry_space import RegistrySpace
from sanderling.sdk.registry_tokens import RegistryLogin, RegistryTokens
from sanderling.sdk.registry_upstreams import RegistryUpstreams
from sanderling.sdk.wire import endpoint, parse_time
from sanderling.sdk.workspace import Workspace

PASSWORD_NAMES = ("password", "password2")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The registry's admin user, as the page "Access keys" shows it.

    Attributes:
        login_server: The registry's host and port.
        is_enabled: Whether the admin user may sign in.
        username: Its name.
        passwords: `password` and `password2` by name, either works; empty while disabled.
    """

    login_server: str
    is_enabled: bool
    username: str
    passwords: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Credentials({self.username!r} at {self.login_server!r}, enabled={self.is_enabled})"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a repository."""

    name: str
    digest: str
    size_bytes: int
    pushed_time: datetime | None


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository and its tags."""

    name: str
    tags: Sequence[Tag]


class Registry:
    """The registry of one workspace's server.

    Args:
        workspace: The workspace.

    Attributes:
        tokens: Its named tokens.
        upstreams: The registries that it pulls through; the owner's.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.tokens = RegistryTokens(workspace)
        self.upstreams = RegistryUpstreams(workspace)

    @property
    def space(self) -> RegistrySpace:
        """Usage, quota, retention rules and garbage collection."""
        return RegistrySpace(self.workspace)

    def repositories(self) -> Sequence[Repository]:
        """List the workspace's repositories with their tags.

        Returns:
            The repositories, by name.
        """
        answer = self._call("GET")
        return [
            Repository(
                repository["name"],
                tuple(
                    Tag(tag["name"], tag["digest"], int(tag.get("sizeBytes") or 0), parse_time(tag.get("pushedAt")))
                    for tag in repository.get("tags", ())
                ),
            )
            for repository in answer.get("repositories", ())
        ]

    def credentials(self) -> Credentials:
        """Read the admin user and its passwords.

        Returns:
            The credentials; without passwords while the admin user is disabled.
        """
        return _credentials(self._call("GET", "credentials"))

    def enable_admin(self, enabled: bool = True) -> Credentials:
        """Switch the admin user on or off.

        Args:
            enabled: False switches it off.

        Returns:
            The credentials afterwards.
        """
        self._call("POST", "admin-user", body={"enabled": enabled})
        return self.credentials()

    def regenerate(self, name: str = "password") -> Credentials:
        """Replace one password; the other goes on working.

        Args:
            name: `password` or `password2`.

        Returns:
            The credentials afterwards.

        Raises:
            Invalid: There is no password of this name.
        """
        if name not in PASSWORD_NAMES:
            raise Invalid(f"there is no {name!r}: the admin user has password and password2")
        self._call("POST", "regenerate", body={"name": name})
        return self.credentials()

    def login(self) -> RegistryLogin:
        """Make a password for yourself, for this workspace's repositories and three hours.

        Returns:
            What to give `docker login`.
        """
        values = self._call("POST", "login")
        expires_time = parse_time(values["expiresAt"])
        return RegistryLogin(values["loginServer"], values["username"], values["password"], expires_time)

    def _call(self, method: str, *segments: str, body: Any = None) -> Any:
        path = endpoint("api", "v1", "workspaces", self.workspace.name, "registry", *segments)
        return self.workspace.client.call(method, path, body=body)


def _credentials(values: Mapping[str, Any]) -> Credentials:
    return Credentials(
        login_server=values["loginServer"],
        is_enabled=bool(values["adminUserEnabled"]),
        username=values.get("username") or "",
        passwords={entry["name"]: entry["value"] for entry in values.get("passwords", ())},
    )
