"""Connection strings are read strictly, and never leak their key."""

import pytest

from sanderling.errors import Invalid
from sanderling.iot import ConnectionString

TEXT = "HostName=localhost:8443;DeviceId=d1;ModuleId=$edgeAgent;SharedAccessKey=c2VjcmV0a2V5==;GatewayHostName=gw;X=1"


def test_a_connection_string_survives_a_round_trip() -> None:
    parsed = ConnectionString.parse(TEXT)
    assert (parsed.host, parsed.https_port, parsed.device_id, parsed.module_id) == (
        "localhost",
        8443,
        "d1",
        "$edgeAgent",
    )
    assert ConnectionString.parse(parsed.format()) == parsed
    assert "secret" not in repr(parsed)
    assert "c2Vj" not in repr(parsed)


def test_without_a_port_it_is_443() -> None:
    parsed = ConnectionString.parse("HostName=hub.example;SharedAccessKeyName=service;SharedAccessKey=a2V5\n")
    assert (parsed.https_port, parsed.shared_access_key_name) == (443, "service")
    assert ConnectionString.parse("HostName=[::1]:9").host == "::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DeviceId=d1",
        "HostName=a;HostName=b",
        "HostName=a;ModuleId=m",
        "HostName=a;DeviceId=a/b",
        "HostName=a;DeviceId=",
        "HostName=a;SharedAccessKeyc2VjcmV0",
        "HostName=a b",
        "HostName=a:0",
        "HostName=a:99999",
        "HostName=http://a",
        "x" * 5000,
    ],
)
def test_what_is_no_connection_string_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        ConnectionString.parse(text)
    assert "c2Vj" not in caught.value.message
