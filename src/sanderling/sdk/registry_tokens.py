"""The registry's named tokens: passwords for some repositories and actions, for as long as one likes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.sdk.wire import endpoint, parse_time

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace

ACTIONS = ("pull", "push", "delete", "list")


@dataclass(frozen=True, slots=True)
class TokenScope:
    """What a token may do where.

    Attributes:
        repositories: A repository, `FOLDER/*`, or `WORKSPACE/*` for all of the workspace.
        actions: Some of pull, push, delete, list.
    """

    repositories: str
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class RegistryToken:
    """A named token, without its password.

    Attributes:
        name: Its name in the workspace.
        username: What `docker login` is given.
        scopes: What it may do where.
        is_enabled: Whether it is switched on.
        expires_time: When it ends; None when it is deleted.
        used_time: When a password of it was used last, to the minute.
        device: The device that it was made for, with which it ends; None for no device.
    """

    name: str
    username: str
    description: str
    scopes: Sequence[TokenScope]
    is_enabled: bool
    created_time: datetime | None
    expires_time: datetime | None
    used_time: datetime | None
    device: str | None

    @property
    def state(self) -> str:
        """`enabled`, `disabled` or `expired`."""
        if self.expires_time is not None and self.expires_time <= datetime.now(UTC):
            return "expired"
        return "enabled" if self.is_enabled else "disabled"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RegistryToken":
        """Build a token from what the server says of it."""
        return cls(
            name=values["name"],
            username=values["username"],
            description=values.get("description") or "",
            scopes=tuple(TokenScope(s["repositories"], _in_order(s["actions"])) for s in values.get("scopes", ())),
            is_enabled=bool(values["enabled"]),
            created_time=parse_time(values.get("createdAt")),
            expires_time=parse_time(values.get("expiresAt")),
            used_time=parse_time(values.get("usedAt")),
            device=values.get("device"),
        )

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        times = {"createdAt": self.created_time, "expiresAt": self.expires_time, "usedAt": self.used_time}
        return {
            "name": self.name,
            "username": self.username,
            "description": self.description,
            "scopes": [{"repositories": s.repositories, "actions": list(s.actions)} for s in self.scopes],
            "state": self.state,
            **{name: moment.isoformat() if moment else None for name, moment in times.items()},
            "device": self.device,
        }


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token with its password, which is shown this once.

    Attributes:
        login_server: The registry's host and port.
        token: The token.
        password: Its password. It is a secret.
    """

    login_server: str
    token: RegistryToken
    password: str = field(repr=False)

    @property
    def username(self) -> str:
        """What `docker login` is given."""
        return self.token.username


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """A user name and a password for `docker login` that end by themselves.

    Attributes:
        login_server: The registry's host and port.
        username: The user name.
        password: The password. It is a secret.
        expires_time: When it ends.
    """

    login_server: str
    username: str
    password: str = field(repr=False)
    expires_time: datetime | None


class RegistryTokens:
    """The named tokens of one workspace's registry.

    Args:
        workspace: The workspace.
    """

    def __init__(self, workspace: "Workspace") -> None:
        self._workspace = workspace

    def create(
        self,
        name: str,
        repositories: Sequence[str] = ("*",),
        actions: Sequence[str] = ("pull",),
        expires_in: timedelta | None = None,
        description: str = "",
        device: str | None = None,
    ) -> IssuedToken:
        """Make a token.

        Args:
            name: 1 to 64 lower-case letters, digits and inner dashes.
            repositories: `digits` or `demo/digits`, `FOLDER/*`, or `*` for all of the workspace.
            actions: Some of pull, push, delete, list.
            expires_in: How long it is good; None until it is deleted.
            description: What it is for.
            device: A device whose token it is: it ends when the device is deleted or disabled.

        Returns:
            The token with its password, which cannot be shown again.

        Raises:
            Invalid: A name or an action cannot be one.
            Conflict: There is a token of this name.
        """
        unknown = sorted(set(actions) - set(ACTIONS))
        if unknown or not actions:
            raise Invalid(f"{', '.join(unknown) or 'nothing'!r}: the actions are {', '.join(ACTIONS)}")
        body = {
            "name": name,
            "scopes": [{"repositories": self._within(one), "actions": list(actions)} for one in repositories],
            "expiresAt": (datetime.now(UTC) + expires_in).isoformat() if expires_in is not None else None,
            "description": description,
            "device": device,
        }
        return _issued(self._call("POST", body=body))

    def list(self) -> Sequence[RegistryToken]:
        """List the tokens.

        Returns:
            The tokens by name.
        """
        return [RegistryToken.from_json(values) for values in self._call("GET")["tokens"]]

    def get(self, name: str) -> RegistryToken:
        """Look a token up.

        Args:
            name: Its name.

        Returns:
            The token.

        Raises:
            NotFound: There is none of this name.
        """
        return RegistryToken.from_json(self._call("GET", name))

    def enable(self, name: str, enabled: bool = True) -> RegistryToken:
        """Switch a token on or off; off, it is refused at once.

        Args:
            name: Its name.
            enabled: False switches it off.

        Returns:
            The token afterwards.

        Raises:
            NotFound: There is none of this name.
        """
        return RegistryToken.from_json(self._call("PATCH", name, body={"enabled": enabled}))

    def regenerate(self, name: str) -> IssuedToken:
        """Give a token another password; the one before is refused at once.

        Args:
            name: Its name.

        Returns:
            The token with its password, which cannot be shown again.

        Raises:
            NotFound: There is none of this name.
        """
        return _issued(self._call("POST", name, "regenerate"))

    def delete(self, name: str) -> None:
        """Delete a token; it is refused at once.

        Args:
            name: Its name.

        Raises:
            NotFound: There is none of this name.
        """
        self._call("DELETE", name)

    def _within(self, repositories: str) -> str:
        """Return the whole name of repositories that are given by their name in the workspace."""
        own = f"{self._workspace.name}/"
        return repositories if repositories.startswith(own) else own + repositories

    def _call(self, method: str, *segments: str, body: Any = None) -> Any:
        path = endpoint("api", "v1", "workspaces", self._workspace.name, "registry", "tokens", *segments)
        return self._workspace.client.call(method, path, body=body)


def _in_order(actions: Sequence[str]) -> tuple[str, ...]:
    """Return *actions* as people name them; one that is new to us comes last."""
    return tuple(sorted(actions, key=lambda action: ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)))


def _issued(values: Mapping[str, Any]) -> IssuedToken:
    return IssuedToken(values["loginServer"], RegistryToken.from_json(values["token"]), values["password"])
