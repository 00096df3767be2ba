from __future__ import annotations

import re

import httpx

from sanderling.sdk import Workspace

FROM_HERE = {"Sec-Fetch-Site": "same-origin"}
REGISTRY = "/workspaces/demo/registry"


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    found = re.search(r'name="csrf" value="(\w+)"', browser.get(REGISTRY).text)
    assert found
    return browser.post(path, data={"csrf": found[1], **fields}, headers=FROM_HERE)


def test_what_was_pushed_is_listed(browser: httpx.Client, pushed: str) -> None:
    page = browser.get(REGISTRY).text
    assert "demo/digits" in page
    assert pushed in page


def test_the_admin_user_is_turned_on_and_off(browser: httpx.Client, demo: Workspace) -> None:
    answer = post(browser, f"{REGISTRY}/admin-user", enabled="true")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{REGISTRY}?done=admin-on")
    keys = demo.registry.credentials()
    assert keys.is_enabled
    page = browser.get(answer.headers["location"]).text
    assert "The admin user is on." in page
    for password in keys.passwords.values():
        assert password in page
    post(browser, f"{REGISTRY}/admin-user", enabled="false")
    assert not demo.registry.credentials().is_enabled
    assert not [password for password in keys.passwords.values() if password in browser.get(REGISTRY).text]


def test_one_password_is_regenerated_and_the_other_stays(browser: httpx.Client, demo: Workspace) -> None:
    before = demo.registry.enable_admin().passwords
    answer = post(browser, f"{REGISTRY}/regenerate", name="password2")
    assert answer.headers["location"] == f"{REGISTRY}?done=regenerated"
    after = demo.registry.credentials().passwords
    assert after["password"] == before["password"]
    assert after["password2"] != before["password2"]


def test_a_form_that_makes_no_sense_changes_nothing(browser: httpx.Client, demo: Workspace) -> None:
    before = demo.registry.enable_admin()
    assert post(browser, f"{REGISTRY}/regenerate", name="password3").status_code == 400
    assert post(browser, f"{REGISTRY}/admin-user", enabled="perhaps").status_code == 400
    assert demo.registry.credentials() == before


def test_passwords_are_never_kept_by_the_browser(browser: httpx.Client, demo: Workspace) -> None:
    assert browser.get(REGISTRY).headers["cache-control"] == "no-store"


def test_words_in_the_address_are_not_repeated_on_the_page(browser: httpx.Client, demo: Workspace) -> None:
    assert "send-money" not in browser.get(f"{REGISTRY}?done=send-money").text


def test_a_token_is_made_shown_once_listed_and_deleted(browser: httpx.Client, demo: Workspace) -> None:
    page = post(browser, f"{REGISTRY}/tokens", name="portal", repository="demo/digits", rights="push", life="30")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    (password,) = re.findall(r'data-copy="the password"><pre>(\w{52})</pre>', page.text)
    assert "demo.portal" in page.text
    token = demo.registry.tokens.get("portal")
    assert [(scope.repositories, set(scope.actions)) for scope in token.scopes] == [("demo/digits", {"pull", "push"})]
    assert token.expires_time is not None
    listed = browser.get(REGISTRY).text
    assert "demo.portal" in listed
    assert password not in listed
    answer = post(browser, f"{REGISTRY}/delete-token", name="portal")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{REGISTRY}?done=token-deleted")
    assert "demo.portal" not in browser.get(answer.headers["location"]).text


def test_a_token_that_cannot_be_is_refused_on_a_page(browser: httpx.Client, demo: Workspace) -> None:
    good = {"name": "wrong", "repository": "", "rights": "pull", "life": "30"}
    for change in ({"name": "No Name"}, {"rights": "own"}, {"life": "31"}, {"repository": "A B"}):
        assert post(browser, f"{REGISTRY}/tokens", **good | change).status_code == 400
    assert post(browser, f"{REGISTRY}/delete-token", name="nix").status_code == 404
    assert browser.post(f"{REGISTRY}/tokens", data=good, headers=FROM_HERE).status_code == 403
    assert "wrong" not in [token.name for token in demo.registry.tokens.list()]
