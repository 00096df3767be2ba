"""A visit to a page, and the page that answers it.

A page is made by a plain function of a visit. It asks the server through the
visit's client, blocks as long as that takes, and raises errors of the tree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sanderling.errors import NotFound
from sanderling.sdk import Workspace
from sanderling.sdk.client import Client


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks for what.

    *params* are those of the path, *query* those behind the question mark.
    *workspace* is the one that the page is about, or else the one looked at last;
    None when the server has none.
    """

    client: Client
    url: str
    params: Mapping[str, Any]
    query: Mapping[str, str]
    workspaces: Sequence[str]
    workspace: str | None
    now: datetime

    @property
    def home(self) -> Workspace:
        """The workspace that the page is about.

        Raises:
            NotFound: There is none.
        """
        if self.workspace is None:
            raise NotFound("there is no workspace yet; make one: sanderling init --name demo")
        return Workspace(self.workspace, self.client)

    @property
    def server(self) -> Workspace:
        """The way to what belongs to the server and to no workspace: devices and messages."""
        return Workspace(self.workspace or "", self.client)


@dataclass(frozen=True, slots=True)
class Page:
    """What to show: a template and what it needs. With *refresh_s* the page's live parts are asked for again."""

    template: str
    here: str
    values: Mapping[str, Any] = field(default_factory=dict)
    at_top: bool = True
    refresh_s: int | None = None


Show = Callable[[Visit], Page]
