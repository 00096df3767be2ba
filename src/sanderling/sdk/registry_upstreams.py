"""The registry's upstreams: other registries that it pulls through and keeps. For the server's owner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sanderling.errors import Conflict
from sanderling.sdk.hints import hinted
from sanderling.sdk.wire import endpoint

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace

_PATH = ("api", "v1", "registry", "upstreams")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A registry that is pulled through.

    Attributes:
        name: The prefix of its repositories here.
        registry: Its host and port, or `docker.io`.
        username: Who signs in there; empty for nobody.
        has_password: Whether a password is kept, which is never shown.
        ttl: How long a tag that is here is trusted before it is asked for again.
        is_plain_http: Whether it is spoken to without TLS.
        has_ca: Whether an authority of its own is trusted there.
        is_enabled: Whether it is asked; what is here is served in any case.
        is_mirror: Whether clients may take this server for a mirror of it.
        is_shared: Whether everybody who is signed in may pull.
        only: The repositories that may be pulled from it; empty for all.
        trouble: Why it is left alone just now, or empty.
    """

    name: str
    registry: str
    username: str
    has_password: bool
    ttl: timedelta
    is_plain_http: bool
    has_ca: bool
    is_enabled: bool
    is_mirror: bool
    is_shared: bool
    only: Sequence[str]
    trouble: str

    def to_json(self) -> dict[str, Any]:
        """Return it as the API has it.

        Returns:
            The JSON object.
        """
        return {
            "name": self.name,
            "registry": self.registry,
            "username": self.username,
            "hasPassword": self.has_password,
            "ttlSeconds": self.ttl.total_seconds(),
            "plainHttp": self.is_plain_http,
            "hasCa": self.has_ca,
            "enabled": self.is_enabled,
            "mirror": self.is_mirror,
            "shared": self.is_shared,
            "only": list(self.only),
            "trouble": self.trouble,
        }


class RegistryUpstreams:
    """The upstreams of one server's registry. They belong to the server, not to one workspace.

    Args:
        workspace: The way to the server.
    """

    def __init__(self, workspace: "Workspace") -> None:
        self.workspace = workspace

    def list(self) -> "Sequence[Upstream]":
        """List the upstreams.

        Returns:
            The upstreams, by name.
        """
        return [_upstream(one) for one in self._call("GET")["upstreams"]]

    def get(self, name: str) -> Upstream:
        """Look an upstream up.

        Args:
            name: Its name.

        Returns:
            The upstream.

        Raises:
            NotFound: There is none of this name.
        """
        return _upstream(self._call("GET", name))

    def add(
        self,
        name: str,
        registry: str,
        *,
        username: str = "",
        password: str = "",
        ttl: timedelta = timedelta(hours=1),
        plain_http: bool = False,
        ca_pem: str = "",
        mirror: bool = False,
        shared: bool = False,
        only: "Sequence[str]" = (),
    ) -> Upstream:
        """Pull through another registry from now on.

        Args:
            name: The prefix of its repositories here, such as `hub`; `WORKSPACE/hub` for one workspace.
            registry: `docker.io`, or host and port.
            username: Who signs in there; empty for nobody.
            password: The password; it is kept sealed and never shown.
            ttl: How long a tag that is here is trusted before it is asked for again.
            plain_http: Speak to it without TLS.
            ca_pem: The certificates of the only authority to trust there.
            mirror: Answer clients that take this server for a mirror of it.
            shared: Let everybody who is signed in pull.
            only: The repositories that may be pulled from it (`library/debian`, `library/*`); all when empty.

        Returns:
            The upstream.

        Raises:
            Conflict: An upstream or a workspace has this name.
            Invalid: Something given cannot be.
        """
        body = {
            "name": name,
            "registry": registry,
            "username": username,
            "password": password,
            "ttlSeconds": ttl.total_seconds(),
            "plainHttp": plain_http,
            "caPem": ca_pem,
            "mirror": mirror,
            "shared": shared,
            "only": [*only],
        }
        try:
            return _upstream(self._call("POST", body=body))
        except Conflict as error:
            raise hinted(error, "sanderling registry upstream list") from None

    def enable(self, name: str, enabled: bool = True) -> Upstream:
        """Switch an upstream on or off; off, what is here is served.

        Args:
            name: Its name.
            enabled: False switches it off.

        Returns:
            The upstream afterwards.

        Raises:
            NotFound: There is none of this name.
        """
        return _upstream(self._call("PATCH", name, body={"enabled": enabled}))

    def remove(self, name: str) -> None:
        """Forget an upstream and its password; what was pulled through stays.

        Args:
            name: Its name.

        Raises:
            NotFound: There is none of this name.
        """
        self._call("DELETE", name)

    def _call(self, method: str, *names: str, body: Any = None) -> Any:
        # A name may have parts: workspace/hub.
        parts = [part for name in names for part in name.split("/")]
        return self.workspace.client.call(method, endpoint(*_PATH, *parts), body=body)


def _upstream(values: Mapping[str, Any]) -> Upstream:
    return Upstream(
        name=values["name"],
        registry=values["registry"],
        username=values.get("username") or "",
        has_password=bool(values.get("hasPassword")),
        ttl=timedelta(seconds=float(values["ttlSeconds"])),
        is_plain_http=bool(values.get("plainHttp")),
        has_ca=bool(values.get("hasCa")),
        is_enabled=bool(values.get("enabled")),
        is_mirror=bool(values.get("mirror")),
        is_shared=bool(values.get("shared")),
        only=tuple(values.get("only") or ()),
        trouble=values.get("trouble") or "",
    )
