"""Shared access signatures: signed over what was received, compared by path, in time."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Denied, Invalid
from sanderling.iot import sas

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()


def test_a_token_is_what_the_public_clients_make() -> None:
    # Made with azure-iot-device 2.14.0's RenewableSasToken for the same values.
    token = sas.build("localhost/devices/d1", KEY, 1_700_000_000)
    assert token.startswith("SharedAccessSignature sr=localhost%2Fdevices%2Fd1&sig=")
    assert token.endswith("&se=1700000000")


def test_what_is_built_is_verified() -> None:
    token = sas.parse(sas.build("hub:8443/devices/d1/modules/$edgeAgent", KEY, 100, policy="service"))
    assert token.path == "devices/d1/modules/$edgeAgent"
    assert token.policy == "service"
    sas.verify(token, [OTHER, KEY], resource_path="devices/d1/modules/$edgeAgent", now=99)


def test_the_order_of_fields_is_free_and_slashes_may_stand_in_the_signature() -> None:
    signature = base64.b64encode(sas.sign(KEY, b"localhost%3a8443\n100")).decode().replace("+", "%2B")
    token = sas.parse(f"SharedAccessSignature se=100&skn=iothubowner&sig={signature}&sr=localhost%3a8443")
    assert token.path == ""
    sas.verify(token, [KEY], resource_path="devices/d1", now=0)


def test_an_expired_token_is_refused_after_its_signature_was_checked() -> None:
    token = sas.parse(sas.build("h/devices/d1", KEY, 100))
    with pytest.raises(sas.TokenExpired) as caught:
        sas.verify(token, [KEY], resource_path="devices/d1", now=100)
    assert caught.value.expired_at == 100
    with pytest.raises(sas.WrongSignature):
        sas.verify(token, [OTHER], resource_path="devices/d1", now=100)


@pytest.mark.parametrize("path", ["devices/d10", "devices/d2", "devices", ""])
def test_a_token_covers_its_own_path_and_what_is_below(path: str) -> None:
    token = sas.parse(sas.build("h/devices/d1", KEY, 100))
    sas.verify(token, [KEY], resource_path="devices/d1/modules/m", now=0)
    with pytest.raises(sas.WrongScope):
        sas.verify(token, [KEY], resource_path=path, now=0)


def test_ids_may_be_encoded_once_more() -> None:
    assert sas.covers("devices/d1/modules/%24edgeHub", "devices/d1/modules/$edgeHub")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer x",
        "SharedAccessSignature sr=a&sig=AA==",
        "SharedAccessSignature sr=a&sig=AA==&se=1&se=2",
        "SharedAccessSignature sr=a&sig=AA==&se=-1",
        "SharedAccessSignature sr=a&sig=AA==&se=١",
        "SharedAccessSignature sr=a&sig=%%%&se=1",
        "SharedAccessSignature sr&sig&se",
        "SharedAccessSignature sr=" + "a" * 5000,
    ],
)
def test_what_is_no_token_is_denied(text: str) -> None:
    with pytest.raises(sas.TokenMalformed):
        sas.parse(text)


@given(st.text(max_size=80))
def test_hostile_text_is_a_token_or_denied(text: str) -> None:
    with contextlib.suppress(Denied):
        sas.parse("SharedAccessSignature " + text)


def test_a_token_does_not_show_its_signature() -> None:
    assert "signature" not in repr(sas.parse(sas.build("h", KEY, 1)))


def test_a_key_that_is_not_base64_is_invalid() -> None:
    with pytest.raises(Invalid):
        sas.build("h", "not base64!", 1)
