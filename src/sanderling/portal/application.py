"""The portal as one Starlette application: which address shows which page.

- Every page's calls run in a thread with a limit of the portal's own: a page waits for API
  handlers in the same process, and those need the default threads.
- What goes wrong becomes a page with the status of its kind, in one table.
- A session that has ended leads to the sign-in page and back.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.portal import devices, images, models, overview, registry, session
from sanderling.portal.downloads import download
from sanderling.portal.guard import HEADERS, Guard
from sanderling.portal.rendering import environment, path
from sanderling.portal.visit import Page, Show, Visit
from sanderling.sdk import Workspace
from sanderling.sdk.client import Client
from sanderling.sdk.wire import parse_time

log = logging.getLogger(__name__)

THREADS = 8
STATIC = Path(__file__).parent / "static"

STATUS: dict[type[SanderlingError], int] = {Invalid: 400, Denied: 403, NotFound: 404, Conflict: 409, Unavailable: 503}
HEADINGS = {
    400: "That cannot be done",
    403: "Not allowed",
    404: "Not found",
    405: "That cannot be done",
    409: "It changed meanwhile",
    500: "Something broke on the server",
    503: "The server cannot answer now",
}
DONE = {
    "admin-on": "The admin user is on.",
    "admin-off": "The admin user is off; its passwords are refused.",
    "regenerated": "There is a new password; the old one is refused.",
    "token-deleted": "The token is deleted; it is refused.",
}

Act = Callable[[Visit, Mapping[str, str]], str]
Reply = Callable[[Visit, Mapping[str, str]], Page]
Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


class SessionOver(Denied):
    """The token in the cookie is not known, or not any more."""


class Portal:
    """The pages over the API that *client_for* leads to, given a bearer token ("" for none)."""

    def __init__(self, client_for: Callable[[str], Client]) -> None:
        self._client_for = client_for
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._templates = environment()

    def routes(self) -> list[Route | Mount]:
        """Return the addresses, each with what answers it."""
        workspace = "/workspaces/{workspace}"
        model = workspace + "/models/{name}"
        image = workspace + "/images/{name}"
        return [
            Route("/", self.page(overview.show_overview)),
            Route("/sign-in", self.ask_for_code, methods=["GET"]),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
            Route(workspace, self.page(overview.show_overview)),
            Route(workspace + "/models", self.page(models.show_models)),
            Route(model, self.page(models.show_model)),
            Route(model + "/{version:int}", self.page(models.show_model)),
            Route(model + "/{version:int}/files/{path:path}", self.download_file),
            Route(workspace + "/images", self.page(images.show_images)),
            Route(image, self.page(images.show_image)),
            Route(image + "/{version:int}", self.page(images.show_image)),
            Route(workspace + "/registry", self.page(registry.show_registry)),
            Route(workspace + "/registry/admin-user", self.action(registry.set_admin_user), methods=["POST"]),
            Route(workspace + "/registry/regenerate", self.action(registry.regenerate), methods=["POST"]),
            Route(workspace + "/registry/tokens", self.reply(registry.create_token), methods=["POST"]),
            Route(workspace + "/registry/delete-token", self.action(registry.delete_token), methods=["POST"]),
            Route("/fleet/devices", self.page(devices.show_devices)),
            Route("/fleet/devices/{device}", self.page(devices.show_device)),
            Route("/fleet/messages", self.page(devices.show_messages)),
            Mount("/assets", StaticFiles(directory=STATIC)),
        ]

    def page(self, show: Show) -> Endpoint:
        """Return what answers a page's address."""

        async def answer(request: Request) -> Response:
            token = signed_in(request)

            def make(client: Client) -> str:
                visit = self._visit(request, client)
                return self._render(show(visit), visit, token)

            response = html(await self._ask(token, make))
            chosen = request.path_params.get("workspace")
            if chosen and request.cookies.get(session.WORKSPACE_COOKIE) != chosen:
                session.remember_workspace(response, chosen)
            return response

        return answer

    def action(self, act: Act) -> Endpoint:
        """Return what answers a form of the registry's page: the form is checked, done, and the page shown again."""

        async def answer(request: Request) -> Response:
            fields = await session.read_form(request)
            token = signed_in(request)
            session.check_csrf(fields, token)
            done = await self._ask(token, lambda client: act(self._visit(request, client), fields))
            back = path("workspaces", request.path_params["workspace"], "registry")
            return RedirectResponse(f"{back}?done={done}", status_code=303)

        return answer

    def reply(self, act: Reply) -> Endpoint:
        """Return what answers a form with a page: for a secret that is shown once, and fits into no address."""

        async def answer(request: Request) -> Response:
            fields = await session.read_form(request)
            token = signed_in(request)
            session.check_csrf(fields, token)

            def make(client: Client) -> str:
                visit = self._visit(request, client)
                return self._render(act(visit, fields), visit, token)

            return html(await self._ask(token, make))

        return answer

    async def download_file(self, request: Request) -> Response:
        """Send one file of a model."""
        token = signed_in(request)
        return await self._ask(token, lambda client: download(self._visit(request, client)))

    async def ask_for_code(self, request: Request) -> Response:
        """Show the sign-in page."""
        return self._sign_in_page(session.local_path(request.query_params.get("next")))

    async def sign_in(self, request: Request) -> Response:
        """Change a one-time code into a session."""
        fields = await session.read_form(request)
        code, following = fields.get("code", "").strip(), session.local_path(fields.get("next"))
        if not code:
            return self._sign_in_page(following, "The code is missing: paste it, or open the sign-in link.", 400)
        try:
            granted = await self._ask(
                "", lambda client: client.call("POST", "/api/v1/sign-in", body={"code": code.rpartition("#")[2]})
            )
        except (Denied, Invalid):
            fault = "This code does not work: it was used, or is older than fifteen minutes. Ask for a new link."
            return self._sign_in_page(following, fault, 403)
        except Unavailable as error:
            return self._sign_in_page(following, error.message, 503)
        response = RedirectResponse(following, status_code=303)
        session.remember(response, granted["token"], parse_time(granted.get("expiresAt")), datetime.now(UTC))
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and in the API."""
        fields = await session.read_form(request)
        token = signed_in(request)
        session.check_csrf(fields, token)
        await self._ask(token, lambda client: client.call("POST", "/api/v1/sign-out"))
        response = RedirectResponse("/sign-in", status_code=303)
        session.forget(response)
        return response

    async def show_error(self, request: Request, error: Exception) -> Response:
        """Show what went wrong, or the way to a new session."""
        if isinstance(error, SessionOver):
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            is_page = request.method == "GET" and here != "/"
            response: Response = RedirectResponse(
                f"/sign-in?next={quote(here, safe='')}" if is_page else "/sign-in", status_code=303
            )
            session.forget(response)
            return response
        status, message = status_of(error)
        values = {
            "heading": HEADINGS.get(status, "That did not work"),
            "message": message,
            "again": request.url.path if status in (500, 503) and request.method == "GET" else "/",
            "again_text": "Try again" if status in (500, 503) and request.method == "GET" else "To the overview",
        }
        token = session.token_of(request)
        frame: dict[str, object] = {"csrf_token": ""}
        if token:
            frame = {**frame_values(None, token), "workspace": request.cookies.get(session.WORKSPACE_COOKIE)}
        text = self._templates.get_template("error.html").render({**frame, **values})
        # A fault of ours is answered outside of the guard.
        return html(text, status, {**HEADERS, "Cache-Control": "no-store"})

    def _sign_in_page(self, following: str, fault: str | None = None, status: int = 200) -> Response:
        values = {"next": following if following != "/" else None, "fault": fault}
        return html(self._templates.get_template("sign_in.html").render(values), status)

    async def _ask(self, token: str, work: Callable[[Client], T]) -> T:
        """Run *work* with a client in one of the portal's threads.

        Raises SessionOver in place of Denied when the token itself is not taken.
        """

        def run() -> T:
            with self._client_for(token) as client:
                try:
                    return work(client)
                except Denied as denied:
                    if token and is_over(client):
                        raise SessionOver("the session has ended; sign in again") from denied
                    raise

        return await anyio.to_thread.run_sync(run, limiter=self._limiter)

    def _visit(self, request: Request, client: Client) -> Visit:
        names = sorted(workspace.name for workspace in Workspace.list(client=client))
        wanted = request.path_params.get("workspace")
        if wanted is not None and wanted not in names:
            raise NotFound(f"there is no workspace {wanted!r}, or it is not yours")
        last = request.cookies.get(session.WORKSPACE_COOKIE)
        return Visit(
            client=client,
            url=f"{request.url.scheme}://{request.url.netloc}",
            params=request.path_params,
            query=request.query_params,
            workspaces=names,
            workspace=wanted or (last if last in names else next(iter(names), None)),
            now=datetime.now(UTC),
        )

    def _render(self, page: Page, visit: Visit, token: str) -> str:
        frame = frame_values(visit, token, page)
        return self._templates.get_template(page.template).render({**frame, **page.values})


def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return a page. What devices send may hold half a surrogate pair, which no encoding takes: it becomes a "?"."""
    return HTMLResponse(text.encode("utf-8", "replace"), status_code=status, headers=headers)


def signed_in(request: Request) -> str:
    """Return the session's token.

    Raises:
        SessionOver: There is none.
    """
    token = session.token_of(request)
    if token is None:
        raise SessionOver("sign in first")
    return token


def is_over(client: Client) -> bool:
    """Tell whether the API refuses the client's token as such, not only what was asked with it."""
    try:
        client.call("GET", "/api/v1/me")
    except Denied:
        return True
    return False


def frame_values(visit: Visit | None, token: str, page: Page | None = None) -> dict[str, object]:
    """What every page's frame shows: sections, workspaces, and the value for its forms."""
    here = page.here if page else ""
    return {
        "csrf_token": session.csrf_of(token),
        "workspaces": visit.workspaces if visit else (),
        "workspace": visit.workspace if visit else None,
        "now": visit.now if visit else None,
        "here": here,
        "at_top": page.at_top if page else True,
        "picker_tail": (here,) if here in ("models", "images", "registry") else (),
        "refresh_s": page.refresh_s if page else None,
        "done": DONE.get(visit.query.get("done", "")) if visit else None,
    }


def status_of(error: Exception) -> tuple[int, str]:
    """Return the HTTP status of an error and the sentence for the user."""
    if isinstance(error, SanderlingError):
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return status, error.message
    if isinstance(error, HTTPException):
        sentence = "there is no such page" if error.status_code == 404 else error.detail
        return error.status_code, sentence
    return 500, "This is a fault of ours. The server's log says more."


def app(client_for: Callable[[str], Client]) -> Starlette:
    """Return the portal.

    *client_for* gives, for a bearer token ("" for none), a client of the public API; the portal
    closes it. Its calls may block: they are made in at most eight threads of the portal's own.
    """
    portal = Portal(client_for)
    handlers = {SanderlingError: portal.show_error, HTTPException: portal.show_error, Exception: portal.show_error}
    return Starlette(
        routes=portal.routes(),
        middleware=[Middleware(Guard)],
        exception_handlers=handlers,
    )
