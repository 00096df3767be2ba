"""Channels: from what an environment file calls them to where they are.

- A name is looked up below the alias: ``CONDA_CHANNEL_ALIAS`` of the host, else conda.anaconda.org.
- Users, passwords and tokens (``/t/TOKEN/``) are kept apart from the URL: what is shown, kept or
  put into an image is the URL without them.
- A user, a password or a token may be ``${SANDERLING_INDEX_NAME}``, a variable of the host, as for pip

Source: conda's channel names and URLs; anaconda.org tokens.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from sanderling.errors import Invalid
from sanderling.image.events import without_credentials

DEFAULT_ALIAS = "https://conda.anaconda.org"
ALIAS_VARIABLE = "CONDA_CHANNEL_ALIAS"
VARIABLE_PREFIX = "SANDERLING_INDEX_"
_VARIABLE = r"\$\{(?P<name>\w+)\}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TOKEN = re.compile(r"^(?P<before>.*?)/t/(?P<token>[^/]+)(?=/)")


class ChannelInvalid(Invalid):
    """*channel* cannot be used as a source of conda packages."""

    def __init__(self, channel: str, reason: str) -> None:
        self.channel = without_credentials(channel)
        super().__init__(f"the conda channel '{self.channel}': {reason}")


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. *url* has no credentials and no slash at its end; *login* is user and password."""

    url: str
    token: str | None = None
    login: tuple[str, str] | None = None

    @property
    def host(self) -> str:
        """Name and port, as in the URL; empty for a folder."""
        return urlsplit(self.url).netloc

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.url.startswith("file:")

    @property
    def name(self) -> str:
        """The last part of the URL: what the channel is called where its place must not be told."""
        return unquote(self.url.rsplit("/", 1)[-1])

    def owns(self, url: str) -> bool:
        """Whether *url* is of this channel."""
        return url.startswith(f"{self.url}/")


def read_channels(names: Iterable[str], variables: Mapping[str, str] = os.environ) -> list[Channel]:
    """The channels called *names* (names, URLs or absolute folders), each once, in order. Raises ChannelInvalid."""
    alias = variables.get(ALIAS_VARIABLE) or DEFAULT_ALIAS
    found: dict[str, Channel] = {}
    for name in names:
        channel = _read(_with_variables(name.strip(), variables), alias)
        found.setdefault(channel.url, channel)
    return list(found.values())


def _with_variables(name: str, variables: Mapping[str, str]) -> str:
    """*name* with the host's variables in the places of credentials; nowhere else is one put in."""

    def value(match: re.Match[str]) -> str:
        variable = match["name"]
        if not variable.startswith(VARIABLE_PREFIX):
            raise ChannelInvalid(name, f"${{{variable}}} is not put in; call the variable {VARIABLE_PREFIX}{variable}")
        if variable not in variables:
            raise ChannelInvalid(name, f"the variable {variable} is not set on the machine that builds the image")
        return quote(variables[variable], safe="%")

    login, at, rest = name.rpartition("@")
    rest = re.sub(r"(?<=/t/)" + _VARIABLE + r"(?=/)", value, rest)
    if "${" in rest:
        raise ChannelInvalid(name, "a variable may stand for a user, a password or a token only")
    return re.sub(_VARIABLE, value, login) + at + rest


def _read(name: str, alias: str) -> Channel:
    if name.startswith("/"):
        name = Path(name).as_uri()
    url = name if "://" in name or name.startswith("file:") else f"{alias.rstrip('/')}/{name}"
    if url is not name and not _NAME.fullmatch(name):
        raise ChannelInvalid(
            name, "is neither a name nor a URL; write conda-forge, https://HOST/CHANNEL or file:///DIR"
        )
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and path.startswith("/"):
        return Channel(f"file://{path}")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ChannelInvalid(name, "is not encrypted, so anybody on the way could change its packages; use https")
    if parts.scheme not in ("https", "http") or not parts.hostname or not path:
        raise ChannelInvalid(name, "can be reached by https:// or file:// only, and its URL needs a path")
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username is not None else None
    token = _TOKEN.match(path)
    if token:
        path = token["before"] + path[token.end() :]
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
    return Channel(plain, unquote(token["token"]) if token else None, login)


def with_token(url: str, channels: Iterable[Channel]) -> str:
    """*url*, which is of one of *channels*, as it must be asked for: with the channel's token in it."""
    channel = next((channel for channel in channels if channel.owns(url)), None)
    if channel is None or channel.token is None:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/t/{quote(channel.token)}{parts.path}", parts.query, ""))


def logins(channels: Iterable[Channel]) -> dict[str, tuple[str, str]]:
    """User and password by host."""
    return {channel.host: channel.login for channel in channels if channel.login is not None}
