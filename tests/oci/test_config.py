import json
from typing import Any

import pytest

from sanderling.errors import Invalid
from sanderling.oci import Digest, ImageConfig, Platform

LAYER = str(Digest.of(b"tar"))
FULL: dict[str, Any] = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "created": "1970-01-01T00:00:00Z",
    "rootfs": {"type": "layers", "diff_ids": [LAYER]},
    "history": [{"created_by": "us"}],
    "config": {
        "Env": ["PATH=/usr/bin", "A=b=c", "BARE"],
        "Entrypoint": ["/usr/bin/python3", "-m", "sanderling_scoring"],
        "Cmd": ["x"],
        "WorkingDir": "/var/azureml-app",
        "User": "65532:65532",
        "ExposedPorts": {"5001/tcp": {}},
        "Labels": {"io.sanderling.port-variable": "SERVER_PORT"},
        "StopSignal": "SIGTERM",
    },
}


def parse(fields: object) -> ImageConfig:
    return ImageConfig.parse(json.dumps(fields).encode())


def test_a_config_says_how_the_process_starts() -> None:
    config = parse(FULL)
    assert config.platform == Platform("linux", "arm64", "v8")
    assert config.diff_ids == (LAYER,)
    assert config.variables == {"PATH": "/usr/bin", "A": "b=c", "BARE": ""}
    assert config.entrypoint == ("/usr/bin/python3", "-m", "sanderling_scoring")
    assert (config.cmd, config.working_dir, config.user) == (("x",), "/var/azureml-app", "65532:65532")
    assert config.exposed_ports == ("5001/tcp",)
    assert config.labels == {"io.sanderling.port-variable": "SERVER_PORT"}
    assert (config.stop_signal, config.created) == ("SIGTERM", "1970-01-01T00:00:00Z")
    assert config.to_json() == FULL
    assert config.digest == Digest.of(config.raw)


def test_nulls_as_docker_writes_them_are_empty() -> None:
    config = parse(
        FULL | {"config": {"Env": None, "Entrypoint": None, "Cmd": None, "Labels": None, "ExposedPorts": None}}
    )
    assert (config.env, config.entrypoint, config.cmd, config.labels, config.exposed_ports) == ((), (), (), {}, ())


def test_an_almost_empty_config_is_read() -> None:
    assert parse({"os": "linux", "architecture": "amd64"}).diff_ids == ()


@pytest.mark.parametrize(
    "change",
    [
        {"os": 1},
        {"rootfs": []},
        {"rootfs": {"type": "other"}},
        {"rootfs": {"diff_ids": ["sha256:1"]}},
        {"rootfs": {"diff_ids": "x"}},
        {"config": "x"},
        {"config": {"Env": "A=b"}},
        {"config": {"Env": [1]}},
        {"config": {"Entrypoint": {"a": 1}}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"ExposedPorts": ["5001/tcp"]}},
        {"config": {"User": 0}},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        parse(FULL | change)
