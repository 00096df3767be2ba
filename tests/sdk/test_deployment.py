import json
from pathlib import Path
from typing import Any

import pytest

from sanderling import Deployment
from sanderling.errors import Invalid, NotFound
from sanderling.sdk.deployment_wait import modules_of
from sanderling.sdk.hints import hints_of
from sanderling.sdk.registry import Credentials
from sanderling.sdk.registry_tokens import IssuedToken, RegistryToken, TokenScope

IMAGE = "localhost:8443/demo/digits:1"


def agent(deployment: Deployment) -> dict[str, Any]:
    return dict(deployment.manifest["modulesContent"]["$edgeAgent"]["properties.desired"])


def test_a_module_takes_its_name_from_the_image_and_answers_upstream() -> None:
    deployment = Deployment(IMAGE)
    assert modules_of(deployment.manifest) == {"digits"}
    assert deployment.routes == {"digitsToUpstream": "FROM /messages/modules/digits/outputs/* INTO $upstream"}
    assert agent(deployment)["modules"]["digits"]["settings"] == {"image": IMAGE, "createOptions": "{}"}


def test_a_host_port_becomes_a_port_binding() -> None:
    options = json.loads(agent(Deployment(IMAGE, host_port=9000))["modules"]["digits"]["settings"]["createOptions"])
    assert options == {
        "ExposedPorts": {"5001/tcp": {}},
        "HostConfig": {"PortBindings": {"5001/tcp": [{"HostPort": "9000"}]}},
    }


def test_inputs_are_routed_to_the_scoring_input() -> None:
    routes = Deployment(IMAGE, inputs_from=["sensor", "camera/still"], routes=["FROM /* INTO $upstream"]).routes
    target = 'BrokeredEndpoint("/modules/digits/inputs/amlInput")'
    assert routes["sensorTodigits"] == f"FROM /messages/modules/sensor/* INTO {target}"
    assert routes["camerastillTodigits"] == f"FROM /messages/modules/camera/outputs/still INTO {target}"
    assert routes["route1"] == "FROM /* INTO $upstream"


def test_credentials_go_into_the_manifest_for_their_registry() -> None:
    credentials = Credentials("localhost:8443", True, "demo", {"password": "secret", "password2": "other"})
    settings = agent(Deployment(IMAGE, credentials=credentials))["runtime"]["settings"]
    assert settings["registryCredentials"] == {
        "demo": {"username": "demo", "password": "secret", "address": "localhost:8443"}
    }
    assert "secret" not in repr(credentials)


def test_a_deployment_holds_no_credentials_unless_they_are_given() -> None:
    assert agent(Deployment(IMAGE))["runtime"]["settings"]["registryCredentials"] == {}


def test_a_token_goes_into_the_manifest_under_its_name() -> None:
    scopes = (TokenScope("demo/digits", ("pull",)),)
    token = RegistryToken("press", "demo.press", "", scopes, True, None, None, None, "press-4")
    issued = IssuedToken("localhost:8443", token, "secret")
    settings = agent(Deployment(IMAGE, credentials=issued))["runtime"]["settings"]
    assert settings["registryCredentials"] == {
        "press": {"username": "demo.press", "password": "secret", "address": "localhost:8443"}
    }
    assert "secret" not in repr(issued)


def test_an_admin_user_that_is_off_is_refused_with_the_way_out() -> None:
    with pytest.raises(Invalid, match="is off") as caught:
        Deployment(IMAGE, credentials=Credentials("localhost:8443", False, "demo", {}))
    assert hints_of(caught.value) == ["sanderling registry credentials --enable"]


def test_environment_and_twin_properties_are_the_modules() -> None:
    deployment = Deployment(IMAGE, "scorer", env={"LEVEL": "debug"}, properties={"threshold": 3})
    assert agent(deployment)["modules"]["scorer"]["env"] == {"LEVEL": {"value": "debug"}}
    assert deployment.manifest["modulesContent"]["scorer"] == {"properties.desired": {"threshold": 3}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "with space"},
        {"image": IMAGE, "module": "a/b"},
        {"image": IMAGE, "host_port": 0},
        {"image": IMAGE, "host_port": 65536},
        {"image": IMAGE, "inputs_from": ["a/b/c"]},
        {"image": IMAGE, "inputs_from": [""]},
        {"image": IMAGE, "routes": ["INTO $upstream"]},
        {"image": IMAGE, "routes": ["FROM /* INTO nowhere"]},
    ],
)
def test_what_cannot_be_deployed_is_refused_before_anything_is_sent(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Deployment(**wrong)


def test_a_manifest_written_by_hand_is_taken_as_it_is(tmp_path: Path) -> None:
    manifest = Deployment(IMAGE).manifest
    manifest["modulesContent"]["$edgeAgent"]["properties.desired"]["ours"] = {"unknown": True}
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps(manifest))
    assert Deployment.from_manifest(file).manifest == manifest


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"modulesContent": []}', "not json"])
def test_a_file_that_is_no_manifest_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "deployment.json"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"deployment\.json"):
        Deployment.from_manifest(file)


def test_a_missing_manifest_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nix\.json"):
        Deployment.from_manifest(tmp_path / "nix.json")
