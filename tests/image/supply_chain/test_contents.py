from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from sanderling.image.supply_chain.contents import plain_url

# What must not be seen, and is seen nowhere else in the URL.
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(lambda t: f"S3C{t}")
schemes = st.sampled_from(["https", "http", "HTTPS"])


@given(schemes, secrets, secrets, st.sampled_from(["", ":8443"]), st.booleans())
def test_no_user_and_no_password_is_left_in_a_url(
    scheme: str, user: str, password: str, port: str, is_quoted: bool
) -> None:
    if is_quoted:
        user, password = quote(user, safe=""), quote(password, safe="")
    shown = plain_url(f"{scheme}://{user}:{password}@index.example{port}/simple/a-1.0-py3-none-any.whl")
    assert "S3C" not in shown or any(mark in user + password for mark in "/?#")
    if is_quoted:
        assert shown == f"{scheme.lower()}://index.example{port}/simple/a-1.0-py3-none-any.whl"


@given(schemes, secrets, st.sampled_from(["?token=", "?sig=x&se=", "#sha256=", "#egg=", ";auth="]))
def test_no_token_of_query_fragment_or_parameters_is_left_in_a_url(scheme: str, secret: str, mark: str) -> None:
    shown = plain_url(f"{scheme}://index.example/a-1.0-py3-none-any.whl{mark}{quote(secret, safe='')}")
    assert shown == f"{scheme.lower()}://index.example/a-1.0-py3-none-any.whl"


@given(st.text(max_size=60))
def test_whatever_it_is_the_answer_is_a_plain_url_or_nothing(text: str) -> None:
    shown = plain_url(text)
    assert shown == "" or shown.startswith(("http://", "https://"))
    assert "@" not in shown.removeprefix("http").partition("//")[2].partition("/")[0]


def test_a_place_of_this_machine_is_not_told() -> None:
    assert plain_url("file:///home/user/wheels/a.whl") == ""
    assert plain_url("/home/user/wheels/a.whl") == ""
