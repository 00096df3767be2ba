"""Where an image is pushed to, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.errors import Invalid


@dataclass(frozen=True, slots=True)
class PushTarget:
    """Where an image goes, and who says so: user and password, or a bearer *token*; *ca* is a PEM file.

    The build service fills in *repository* and *tag*. *shown_as* is what people call the registry, when a build
    reaches it at another address than they do.
    """

    registry: str
    repository: str = ""
    tag: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    plain_http: bool = False
    shown_as: str = ""

    @property
    def shown(self) -> str:
        """The registry's `host[:port]` for people."""
        return self.shown_as or self.registry

    def to_json(self) -> dict[str, Any]:
        """All but the secrets."""
        return {
            "registry": self.registry,
            "repository": self.repository,
            "tag": self.tag,
            "ca": str(self.ca) if self.ca else None,
            "plainHttp": self.plain_http,
            "shownAs": self.shown_as,
        }

    def secrets(self) -> dict[str, str]:
        """The secrets alone."""
        pairs = (("username", self.username), ("password", self.password), ("token", self.token))
        return {name: value for name, value in pairs if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], secrets: Mapping[str, str]) -> "PushTarget":
        """Read what `to_json` and `secrets` gave. Raises Invalid."""
        try:
            return cls(
                str(data["registry"]),
                str(data["repository"]),
                str(data["tag"]),
                secrets.get("username"),
                secrets.get("password"),
                secrets.get("token"),
                Path(data["ca"]) if data.get("ca") else None,
                bool(data.get("plainHttp")),
                str(data.get("shownAs") or ""),
            )
        except (KeyError, TypeError) as e:
            raise Invalid(f"the push target cannot be read: {e}") from e
