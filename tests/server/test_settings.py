from pathlib import Path
from typing import Any

import pytest

from sanderling.errors import Invalid
from sanderling.server.settings import ServerSettings

DATA = Path("data")


@pytest.mark.parametrize(
    ("given", "login_server", "mqtt_port"),
    [
        ({}, "localhost:8443", 8883),
        ({"port": 443, "mqtt_port": 1}, "localhost", 1),
        ({"host": "192.0.2.7"}, "192.0.2.7:8443", 8883),
        ({"host": "0.0.0.0"}, "localhost:8443", 8883),
        ({"host": "::1"}, "[::1]:8443", 8883),
        ({"host_names": ("edge.example", "other")}, "edge.example:8443", 8883),
        ({"public_url": "https://edge.example", "public_mqtt_port": 9883}, "edge.example", 9883),
        ({"public_url": "https://edge.example:9443/", "host_names": ("other",)}, "edge.example:9443", 8883),
    ],
)
def test_clients_are_told_the_public_address(given: dict[str, Any], login_server: str, mqtt_port: int) -> None:
    settings = ServerSettings(DATA, **given)
    assert (settings.login_server, settings.told_mqtt_port) == (login_server, mqtt_port)
    assert settings.url == f"https://{login_server}"


def test_the_certificate_is_for_every_name_that_clients_may_use() -> None:
    settings = ServerSettings(DATA, host="192.0.2.7", host_names=("a.example",), public_url="https://b.example")
    names = settings.certificate_names()
    assert {"localhost", "127.0.0.1", "::1", "192.0.2.7", "a.example", "b.example"} <= set(names)
    assert list(names) == sorted(names)


@pytest.mark.parametrize(
    "given",
    [
        {"port": 70000},
        {"mqtt_port": -1},
        {"port": 8883},
        {"host_names": ("https://edge.example",)},
        {"host_names": ("bad name",)},
        {"public_url": "http://edge.example"},
        {"public_url": "https://edge.example/path"},
        {"public_url": "https://user@edge.example"},
        {"public_url": "https://edge.example:port"},
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ServerSettings(DATA, **given)
