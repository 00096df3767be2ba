"""Who is looking: the session's cookie, and what a form must prove before it changes anything.

- The cookie holds the API's own token. Scripts cannot read it, other sites cannot
  send it, plain http and other paths or hosts cannot set it (`__Host-`).
- A POST is taken only from our own pages: the browser must say so (Sec-Fetch-Site,
  or Origin where a browser does not know that), and the form carries a value that
  only this session's pages can know (an HMAC of the token, so nothing is stored).
- What a form sends is bounded before it is read.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from sanderling.errors import Denied, Invalid

COOKIE = "__Host-sanderling"
WORKSPACE_COOKIE = "__Host-sanderling-workspace"
FORM_BYTES = 16_384
YEAR_S = 31_536_000


def token_of(request: Request) -> str | None:
    """Return the token in the request's cookie, or None."""
    return request.cookies.get(COOKIE) or None


def remember(response: Response, token: str, expires_at: datetime | None, now: datetime) -> None:
    """Put the session's token into the cookie, for as long as the API takes it."""
    max_age = max(0, int((expires_at - now).total_seconds())) if expires_at else None
    response.set_cookie(COOKIE, token, max_age=max_age, path="/", secure=True, httponly=True, samesite="strict")


def forget(response: Response) -> None:
    """Take the session's cookie away."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


def remember_workspace(response: Response, name: str) -> None:
    """Keep which workspace was looked at last, for the pages that belong to none."""
    response.set_cookie(WORKSPACE_COOKIE, name, max_age=YEAR_S, path="/", secure=True, httponly=True, samesite="strict")


def csrf_of(token: str) -> str:
    """Return the value that the forms of this session carry."""
    return hmac.new(token.encode(), b"sanderling portal form v1", hashlib.sha256).hexdigest()


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a POST that another site made.

    Browsers say `Sec-Fetch-Site` themselves and pages cannot forge it. Where it is
    missing, Origin has to name the host that was asked.

    Raises:
        Denied: It came from elsewhere, or says not where from.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Denied("this form was sent from another site; open the page here and try again")
        return
    origin, host = headers.get("origin"), headers.get("host")
    if not origin or not host or urlsplit(origin).netloc != host:
        raise Denied("this form does not say that it came from here; open the page again in a current browser")


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form, the last value of each.

    Raises:
        Denied: Another site sent it.
        Invalid: It is larger than a form of ours, or is none.
    """
    check_origin(request.headers)
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Invalid("this is not a form; open the page again and use it there")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise Invalid(f"the form holds more than {FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=20)
    except ValueError as error:
        raise Invalid("the form cannot be read; open the page again and use it there") from error
    return {name: values[-1] for name, values in fields.items()}


def check_csrf(fields: Mapping[str, str], token: str) -> None:
    """Refuse a form that is not from this session's pages.

    Raises:
        Denied: Its value is not this session's.
    """
    if not hmac.compare_digest(fields.get("csrf", "").encode(), csrf_of(token).encode()):
        raise Denied("this form belongs to another session; open the page again and try once more")


def local_path(text: str | None) -> str:
    """Return *text* when it is a path on this server, else the root: nobody is sent elsewhere after sign-in."""
    if not text or not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable():
        return "/"
    return text
