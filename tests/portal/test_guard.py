import httpx
import pytest

from sanderling.portal.guard import POLICY


@pytest.mark.parametrize("path", ["/sign-in", "/", "/assets/portal.css", "/no/such/page", "/assets/none"])
def test_every_answer_says_what_a_browser_may_do_with_it(visitor: httpx.Client, path: str) -> None:
    headers = visitor.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_pages_are_not_kept_and_fixed_files_are(browser: httpx.Client) -> None:
    assert browser.get("/").headers["cache-control"] == "no-store"
    assert browser.get("/sign-in").headers["cache-control"] == "no-store"
    assert browser.get("/assets/none").headers["cache-control"] == "no-store"
    assert browser.get("/assets/portal.css").headers["cache-control"] == "public, max-age=3600"
