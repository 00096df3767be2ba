import pytest

from sanderling.errors import Denied
from sanderling.portal import session


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin", "origin": "null", "host": "a:1"},
        {"origin": "https://a:1", "host": "a:1"},
    ],
)
def test_a_form_from_here_is_taken(headers: dict[str, str]) -> None:
    session.check_origin(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "a:1"},
        {"origin": "null", "host": "a:1"},
        {"origin": "https://b:1", "host": "a:1"},
        {"origin": "https://a:2", "host": "a:1"},
        {"sec-fetch-site": "cross-site", "origin": "https://a:1", "host": "a:1"},
        {"sec-fetch-site": "same-site", "origin": "https://a:1", "host": "a:1"},
        {"sec-fetch-site": "none", "host": "a:1"},
    ],
)
def test_a_form_from_elsewhere_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Denied):
        session.check_origin(headers)


def test_a_form_of_another_session_is_refused() -> None:
    session.check_csrf({"csrf": session.csrf_of("mine")}, "mine")
    for value in (session.csrf_of("theirs"), "", "é"):
        with pytest.raises(Denied):
            session.check_csrf({"csrf": value}, "mine")
    with pytest.raises(Denied):
        session.check_csrf({}, "mine")


def test_the_forms_value_does_not_tell_the_token() -> None:
    assert "secret-token" not in session.csrf_of("secret-token")


@pytest.mark.parametrize("text", ["//evil.example", "https://evil.example", "/\\evil.example", "", None, "x", "/a\nb"])
def test_nobody_is_led_elsewhere_after_signing_in(text: str | None) -> None:
    assert session.local_path(text) == "/"


def test_a_path_here_is_kept() -> None:
    assert session.local_path("/fleet/messages?device=a") == "/fleet/messages?device=a"
