"""Manifests are checked whole; what we do not know survives."""

import copy
from typing import Any

import pytest

from sanderling.errors import Invalid
from sanderling.iot import (
    AgentConfig,
    DeploymentManifest,
    HubConfig,
    ModuleSpec,
    RegistryCredential,
    Upstream,
)
from sanderling.iot.module_spec import parse_module


def manifest() -> dict[str, Any]:
    agent = {
        "schemaVersion": "1.1",
        "runtime": {
            "type": "docker",
            "settings": {
                "minDockerVersion": "v1.25",
                "registryCredentials": {"r": {"username": "u", "password": "p", "address": "reg:5000"}},
            },
        },
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "agent", "createOptions": "{}"}},
            "edgeHub": {"type": "docker", "settings": {"image": "hub"}, "status": "running"},
        },
        "modules": {
            "m1": {
                "version": "1.0",
                "type": "docker",
                "status": "running",
                "restartPolicy": "on-failure",
                "startupOrder": 2,
                "env": {"K": {"value": "v"}, "N": {"value": 1}, "B": {"value": True}},
                "future": {"x": 1},
                "settings": {
                    "image": "reg:5000/m1:1",
                    "createOptions": '{"HostConfig":{"Bin',
                    "createOptions01": 'ds":["/a:/b"]}}',
                    "later": 1,
                },
            }
        },
    }
    hub = {
        "schemaVersion": "1.2",
        "routes": {
            "r1": "FROM /messages/* INTO $upstream",
            "r2": {"route": "FROM /messages/* INTO $upstream", "priority": 0, "timeToLiveSecs": 60},
        },
        "storeAndForwardConfiguration": {"timeToLiveSecs": -1, "storeLimits": {"maxSizeBytes": 1000}},
    }
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": agent},
            "$edgeHub": {"properties.desired": hub},
            "m1": {"properties.desired": {"setting": 1}},
        },
        "unknown": [1],
    }


def test_a_manifest_is_read_into_specs() -> None:
    parsed = DeploymentManifest.parse(manifest())
    assert parsed.agent is not None
    assert parsed.hub is not None
    spec = parsed.agent.modules["m1"]
    assert spec == ModuleSpec(
        name="m1",
        image="reg:5000/m1:1",
        version="1.0",
        restart_policy="on-failure",
        create_options={"HostConfig": {"Binds": ["/a:/b"]}},
        env={"K": "v", "N": "1", "B": "true"},
        startup_order=2,
    )
    assert parsed.agent.registry_credentials == (RegistryCredential("r", "reg:5000", "u", "p"),)
    assert "'p'" not in repr(parsed)
    assert [(r.name, r.priority, r.ttl_s) for r in parsed.hub.routes] == [("r1", 2_000_000_000, None), ("r2", 0, 60)]
    assert parsed.hub.routes[0].route.sink == Upstream()
    assert (parsed.hub.ttl_s, parsed.hub.max_store_bytes) == (None, 1000)
    assert parsed.twins["m1"] == {"setting": 1}
    assert parsed.images() == {"m1": "reg:5000/m1:1"}


def test_a_manifest_survives_a_round_trip() -> None:
    assert DeploymentManifest.parse(manifest()).to_json() == manifest()
    assert DeploymentManifest.parse({"content": manifest()}).to_json() == manifest()


def test_a_module_survives_a_round_trip_with_what_we_do_not_know() -> None:
    agent = DeploymentManifest.parse(manifest()).agent
    assert agent is not None
    written = agent.modules["m1"].to_json()
    assert written["future"] == {"x": 1}
    assert written["settings"]["later"] == 1
    assert parse_module("m1", written) == agent.modules["m1"]


def test_long_create_options_are_cut_and_joined() -> None:
    spec = ModuleSpec("m", "i", create_options={"Env": ["x" * 3000] * 4})
    written = spec.to_json()
    assert sorted(k for k in written["settings"] if k.startswith("create")) == [
        "createOptions",
        "createOptions01",
        "createOptions02",
        "createOptions03",
    ]
    assert parse_module("m", written) == spec


def test_a_manifest_is_built_from_specs() -> None:
    spec = ModuleSpec("m", "i", env={"A": "b"})
    built = DeploymentManifest.build(
        AgentConfig.build({"m": spec}, (RegistryCredential("r", "reg", "u", "p"),)),
        HubConfig.build({"r": "FROM /* INTO $upstream"}),
        {"m": {"x": 1}},
    )
    assert built.agent is not None
    assert built.agent.modules == {"m": spec}
    assert built.hub is not None
    assert built.hub.ttl_s == 7200
    assert built.twins["m"] == {"x": 1}


def test_a_manifest_may_name_modules_only() -> None:
    parsed = DeploymentManifest.parse({"modulesContent": {"m": {"properties.desired": {}}}})
    assert (parsed.agent, parsed.hub, parsed.images()) == (None, None, {})


def test_create_options_may_be_an_object_or_empty() -> None:
    assert parse_module("m", {"settings": {"image": "i", "createOptions": {"a": 1}}}).create_options == {"a": 1}
    assert parse_module("m", {"settings": {"image": "i", "createOptions": " "}}).create_options == {}
    assert parse_module("m", {"version": None, "settings": {"image": "i"}}).version == ""


DELETE = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("$edgeAgent.properties|desired", DELETE, "properties.desired"),
        ("$edgeAgent.properties|desired|modules|x", {}, "layered"),
        ("$edgeAgent.properties|desired.schemaVersion", "2.0", "schemaVersion"),
        ("$edgeAgent.properties|desired.schemaVersion", DELETE, "schemaVersion"),
        ("$edgeAgent.properties|desired.systemModules.other", {}, "systemModules"),
        ("$edgeAgent.properties|desired.runtime", [], "runtime"),
        ("$edgeAgent.properties|desired.runtime.settings.registryCredentials.r.address", "", "credentials 'r'"),
        ("$edgeAgent.properties|desired.runtime.settings.registryCredentials.r.password", DELETE, "password"),
        ("$edgeAgent.properties|desired.modules.m1", 5, "module 'm1'"),
        ("$edgeAgent.properties|desired.modules.b d", {}, "'b d'"),
        ("$edgeAgent.properties|desired.modules.m1.settings.image", " ", "'m1'.*image"),
        ("$edgeAgent.properties|desired.modules.m1.settings.image", 5, "'m1'.*image"),
        ("$edgeAgent.properties|desired.modules.m1.settings.createOptions", "{", "'m1'.*createOptions"),
        ("$edgeAgent.properties|desired.modules.m1.settings.createOptions", 5, "'m1'.*createOptions"),
        ("$edgeAgent.properties|desired.modules.m1.settings.createOptions03", "", "'m1'.*piece"),
        ("$edgeAgent.properties|desired.modules.m1.status", "asleep", "'m1'.*status"),
        ("$edgeAgent.properties|desired.modules.m1.restartPolicy", "sometimes", "'m1'.*restartPolicy"),
        ("$edgeAgent.properties|desired.modules.m1.type", "wasm", "'m1'.*type"),
        ("$edgeAgent.properties|desired.modules.m1.startupOrder", -1, "'m1'.*startupOrder"),
        ("$edgeAgent.properties|desired.modules.m1.env.K", {"value": None}, "'m1'.*env"),
        ("$edgeAgent.properties|desired.modules.m1.env.A=B", {"value": "x"}, "'m1'.*A=B"),
        ("$edgeHub.properties|desired.routes.r1", "FROM nowhere", "route 'r1'"),
        ("$edgeHub.properties|desired.routes.r1", 5, "route 'r1'"),
        ("$edgeHub.properties|desired.routes.r2.priority", "high", "route 'r2'.*priority"),
        ("$edgeHub.properties|desired.storeAndForwardConfiguration.timeToLiveSecs", "x", "timeToLiveSecs"),
        ("a/b", {"properties.desired": {}}, "a/b"),
    ],
)
def test_a_bad_manifest_is_refused_and_says_where(path: str, value: object, message: str) -> None:
    bad = copy.deepcopy(manifest())
    place: Any = bad["modulesContent"]
    *steps, last = [step.replace("|", ".") for step in path.split(".")]
    for step in steps:
        place = place[step]
    if value is DELETE:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(Invalid, match=message):
        DeploymentManifest.parse(bad)


@pytest.mark.parametrize("content", [None, [], {}, {"modulesContent": []}, {"content": {}}])
def test_what_is_no_manifest_is_refused(content: object) -> None:
    with pytest.raises(Invalid):
        DeploymentManifest.parse(content)
