from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from sanderling.sdk import Device

if TYPE_CHECKING:
    from tests.portal.conftest import LinkTo, Site


def test_devices_are_listed_with_their_state(browser: httpx.Client, device: Device) -> None:
    page = browser.get("/fleet/devices").text
    assert "/fleet/devices/press-4" in page
    assert "edge device" in page


def test_a_device_that_is_not_there_is_not_found(browser: httpx.Client, device: Device) -> None:
    answer = browser.get("/fleet/devices/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.text


def test_a_device_shows_its_modules_as_it_reports_them(browser: httpx.Client, device: Device) -> None:
    page = browser.get("/fleet/devices/press-4").text
    for text in ("ended with code 3", "waiting to restart", "expected", "localhost:8443/demo/digits:1"):
        assert text in page
    assert "image was not found" in page


def test_a_deployments_passwords_are_not_shown(browser: httpx.Client, device: Device) -> None:
    page = browser.get("/fleet/devices/press-4").text
    assert "registryCredentials" in page
    assert "the-registrys-password" not in page


def test_a_device_says_how_to_connect_it(browser: httpx.Client, site: Site, device: Device) -> None:
    page = browser.get("/fleet/devices/press-4").text
    assert "sanderling edge run --connection-string-file" in page
    assert f"{site.url}/.well-known/sanderling/ca.pem" in page
    assert device.connection_string().partition("SharedAccessKey=")[2] not in page


def test_messages_are_shown_latest_first_and_stay_text(browser: httpx.Client, device: Device) -> None:
    page = browser.get("/fleet/messages?device=press-4").text
    assert "press-4/digits" in page
    assert page.index("the last one") < page.index("&lt;script&gt;")
    assert "<script>alert" not in page
    assert "AzureMLResponse" in page


def test_messages_of_a_device_that_sent_none_are_none(browser: httpx.Client, device: Device) -> None:
    assert "nobody has sent nothing" in browser.get("/fleet/messages?device=nobody").text


def test_what_no_encoding_takes_and_what_never_ends_is_shown_as_far_as_it_goes(
    browser: httpx.Client, device: Device, link_to: LinkTo
) -> None:
    with link_to(device, "$edgeHub") as link:
        link.send("digits", "amlOutput", rb'{"half": "\ud800"}')
        link.send("digits", "amlOutput", b"\xff\xfe not text")
        link.send("digits", "amlOutput", b"[" * 900 + b"]" * 900)
        link.send("digits", "amlOutput", b'"' + b"long " * 10_000 + b'"')
    answer = browser.get("/fleet/messages")
    assert answer.status_code == 200
    assert "base64: //4gbm90IHRleHQ=" in answer.text
    assert "46,000 more characters" in answer.text
    assert browser.get("/").status_code == 200


def test_a_device_that_reports_nonsense_has_a_page(browser: httpx.Client, site: Site, link_to: LinkTo) -> None:
    from sanderling.sdk import Workspace

    device = Device.create(Workspace.create("demo", client=site.owner, exist_ok=True), "odd", exist_ok=True)
    nonsense = {"runtimeStatus": ["x"], "exitCode": "x", "restartCount": "many", "lastStartTimeUtc": "soon"}
    with link_to(device, "$edgeAgent") as link:
        link.report({"modules": {"m": nonsense}, "lastDesiredStatus": {"code": "x"}, "lastDesiredVersion": "y"})
    answer = browser.get("/fleet/devices/odd")
    assert answer.status_code == 200
    assert "cannot be understood" not in answer.text
    assert '<th scope="row">m' in answer.text
