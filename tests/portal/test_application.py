from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from sanderling.sdk import Workspace
from sanderling.sdk.client import Client

if TYPE_CHECKING:
    from tests.portal.conftest import Site

    PortalOver = Callable[[Callable[[str], Client]], httpx.Client]

SIGNED_IN = {"Cookie": "__Host-sanderling=some-token"}
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}


def csrf_in(page: str) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', page)
    assert found
    return found[1]


def test_a_stranger_is_led_to_the_sign_in_page_and_back(visitor: httpx.Client, site: Site) -> None:
    answer = visitor.get("/fleet/messages?device=a%26b")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ffleet%2Fmessages%3Fdevice%3Da%2526b"
    page = visitor.get(answer.headers["location"]).text
    assert 'name="next" value="/fleet/messages?device=a%26b"' in page
    fields = {"code": site.new_code(), "next": "/fleet/messages?device=a%26b"}
    assert visitor.post("/sign-in", data=fields, headers=FROM_HERE).headers["location"] == fields["next"]


def test_the_sessions_cookie_is_kept_from_scripts_and_other_sites(visitor: httpx.Client, site: Site) -> None:
    answer = visitor.post("/sign-in", data={"code": site.new_code()}, headers=FROM_HERE)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-sanderling=")
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age="):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_a_code_works_once(visitor: httpx.Client, site: Site) -> None:
    code = site.new_code()
    assert visitor.post("/sign-in", data={"code": code}, headers=FROM_HERE).status_code == 303
    again = visitor.post("/sign-in", data={"code": code}, headers=FROM_HERE)
    assert again.status_code == 403
    assert "This code does not work" in again.text
    assert "set-cookie" not in again.headers


def test_a_whole_link_may_be_pasted(visitor: httpx.Client, site: Site) -> None:
    link = f" {site.url}/sign-in#{site.new_code()} "
    assert visitor.post("/sign-in", data={"code": link}, headers=FROM_HERE).status_code == 303


def test_an_empty_code_is_asked_for_again(visitor: httpx.Client) -> None:
    answer = visitor.post("/sign-in", data={"code": " "}, headers=FROM_HERE)
    assert (answer.status_code, "The code is missing" in answer.text) == (400, True)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/workspaces/demo/registry/admin-user"])
def test_a_form_that_another_site_sends_is_refused(browser: httpx.Client, site: Site, path: str) -> None:
    fields = {"code": site.new_code(), "csrf": csrf_in(browser.get("/").text), "enabled": "true"}
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert browser.post(path, data=fields, headers=headers).status_code == 403
    assert browser.get("/").status_code == 200


def test_a_form_without_its_sessions_value_is_refused(browser: httpx.Client) -> None:
    for fields in ({"other": "x"}, {"csrf": ""}, {"csrf": "0" * 64}):
        assert browser.post("/sign-out", data=fields, headers=FROM_HERE).status_code == 403
    assert browser.get("/").status_code == 200


def test_a_form_without_bounds_is_refused(visitor: httpx.Client) -> None:
    assert visitor.post("/sign-in", data={"code": "x" * 20_000}, headers=FROM_HERE).status_code == 400
    many = {f"f{n}": "x" for n in range(100)}
    assert visitor.post("/sign-in", data=many, headers=FROM_HERE).status_code == 400
    assert visitor.post("/sign-in", json={"code": "x"}, headers=FROM_HERE).status_code == 400


def test_signing_out_ends_the_session_in_the_api_too(browser: httpx.Client, site: Site) -> None:
    token = browser.cookies["__Host-sanderling"]
    fields = {"csrf": csrf_in(browser.get("/").text)}
    answer = browser.post("/sign-out", data=fields, headers=FROM_HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "__Host-sanderling" not in browser.cookies
    browser.cookies.set("__Host-sanderling", token)
    assert browser.get("/").headers["location"] == "/sign-in"


def test_a_session_that_ended_is_forgotten(visitor: httpx.Client) -> None:
    answer = visitor.get("/fleet/devices", headers={"Cookie": "__Host-sanderling=made-up"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ffleet%2Fdevices"
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/workspaces/none", "/workspaces/none/models", "/workspaces/demo/models/none/1"]
)
def test_what_is_not_there_is_said_on_a_page(browser: httpx.Client, model: object, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert "<h1>" in answer.text


def test_a_server_that_does_not_answer_is_said_on_a_page(portal_over: PortalOver) -> None:
    visitor = portal_over(lambda token: Client("http://127.0.0.1:1", token=token))
    answer = visitor.get("/fleet/devices", headers=SIGNED_IN)
    assert answer.status_code == 503
    assert "The server cannot answer now" in answer.text
    assert 'href="/fleet/devices">Try again' in answer.text
    assert visitor.post("/sign-in", data={"code": "x"}, headers=FROM_HERE).status_code == 503


def test_a_fault_of_ours_tells_nothing_of_the_inside(portal_over: PortalOver) -> None:
    def client_for(token: str) -> Client:
        raise RuntimeError("the inside")

    answer = portal_over(client_for).get("/", headers=SIGNED_IN)
    assert answer.status_code == 500
    assert "the inside" not in answer.text
    assert "content-security-policy" in answer.headers


def test_a_session_of_one_workspace_sees_that_and_is_told_what_it_may_not_see(
    visitor: httpx.Client, site: Site, demo: Workspace
) -> None:
    token = site.owner.call("POST", "/api/v1/workspaces/demo/tokens")["token"]
    Workspace.create("closed", client=site.owner, exist_ok=True)
    headers = {"Cookie": f"__Host-sanderling={token}"}
    overview = visitor.get("/", headers=headers)
    assert overview.status_code == 200
    assert "could not be read" in overview.text
    assert "/workspaces/closed" not in overview.text
    denied = visitor.get("/fleet/devices", headers=headers)
    assert denied.status_code == 403
    assert "Not allowed" in denied.text
    assert visitor.get("/workspaces/closed/models", headers=headers).status_code == 404
