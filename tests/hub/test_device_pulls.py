"""Who a device is, and which images it is to run, as a registry asks."""

import os
import time
from typing import Any

import pytest
from sqlalchemy import Engine

from sanderling.hub import tables
from sanderling.hub.device_pulls import DevicePulls
from sanderling.hub.identities import Identities, Identity, IdentityChange
from sanderling.hub.twins import Twins
from sanderling.iot import TwinLimits, sas

NOW = 1_000_000


@pytest.fixture
def identities(engine: Engine) -> Identities:
    tables.metadata.create_all(engine)
    return Identities(engine, os.urandom, lambda: float(NOW))


@pytest.fixture
def pulls(engine: Engine) -> DevicePulls:
    return DevicePulls(engine, lambda: float(NOW))


@pytest.fixture
def device(identities: Identities) -> Identity:
    return identities.create("press-4", change=IdentityChange(is_edge=True, secondary_key="QUJDREVGR0hJSktMTU5PUA=="))


def signed(device: Identity, key: str | None = None, path: str | None = None, **more: Any) -> str:
    resource = f"hub.example:8443/{device.path if path is None else path}"
    expires_at = more.pop("expires_at", NOW + 60)
    return sas.build(resource, key or device.primary_key, expires_at, **more)


def deploy(engine: Engine, desired: dict[str, Any]) -> None:
    twins = Twins(engine, TwinLimits(), time.time)
    twins.patch("press-4", "$edgeAgent", {"properties": {"desired": desired}})


def test_a_device_signs_in_with_either_key_until_the_signature_ends(pulls: DevicePulls, device: Identity) -> None:
    for key in device.keys:
        found = pulls.sign_in("press-4", signed(device, key))
        assert found is not None
        assert (found.device_id, found.generation_id, found.expires_at) == ("press-4", device.generation_id, NOW + 60)
    assert pulls.sign_in("press-4", signed(device, expires_at=NOW)) is None


@pytest.mark.parametrize(
    "path", ["", "devices", "devices/press-5", "devices/press-4/modules/$edgeAgent", "other/press-4"]
)
def test_a_signature_for_something_else_is_no_proof(pulls: DevicePulls, device: Identity, path: str) -> None:
    assert pulls.sign_in("press-4", signed(device, path=path)) is None


def test_strangers_and_broken_signatures_are_nobodys(pulls: DevicePulls, device: Identity) -> None:
    right = signed(device)
    for user, signature in (
        ("press-5", right),
        ("", right),
        ("a/b", right),
        ("press-4", right.replace("sig=", "sig=A")),
        ("press-4", signed(device, policy="device")),
        ("press-4", "SharedAccessSignature "),
        ("press-4", "SharedAccessSignature sr=a&sig=b&se=c"),
        ("press-4", right + "x" * 5000),
        ("nobody", signed(device, "A" * 43 + "=", "devices/nobody")),
    ):
        assert pulls.sign_in(user, signature) is None


def test_who_is_disabled_or_deleted_is_unknown_and_new_keys_make_another_mark(
    pulls: DevicePulls, identities: Identities, device: Identity
) -> None:
    before = pulls.find("press-4")
    assert before is not None
    identities.update("press-4", None, IdentityChange(secondary_key=identities.new_key()))
    after = pulls.find("press-4")
    assert after is not None
    assert (after.mark != before.mark, after.generation_id) == (True, before.generation_id)
    identities.update("press-4", None, IdentityChange(is_enabled=False))
    assert pulls.find("press-4") is None
    assert pulls.sign_in("press-4", signed(device)) is None
    identities.update("press-4", None, IdentityChange(is_enabled=True))
    assert pulls.find("press-4") is not None
    identities.delete("press-4")
    assert pulls.find("press-4") is None


def test_the_images_are_those_that_the_agent_is_to_run_now(
    pulls: DevicePulls, engine: Engine, device: Identity
) -> None:
    def images() -> frozenset[str]:
        found = pulls.find("press-4")
        assert found is not None
        return found.images

    assert images() == frozenset()
    modules = {"a": {"settings": {"image": "r/a:1"}}, "b": {"settings": {"image": "r/b@sha256:0"}}}
    deploy(engine, {"modules": modules, "systemModules": {"edgeHub": {"settings": {"image": "r/hub:1"}}}})
    assert images() == {"r/a:1", "r/b@sha256:0", "r/hub:1"}
    deploy(engine, {"modules": {"a": None}, "systemModules": None})
    assert images() == {"r/b@sha256:0"}


@pytest.mark.parametrize("modules", [3, "x", {"a": 3}, {"a": {"settings": 3}}, {"a": {"settings": {"image": 3}}}])
def test_a_twin_that_is_no_deployment_names_no_images(
    pulls: DevicePulls, engine: Engine, device: Identity, modules: Any
) -> None:
    deploy(engine, {"modules": modules})
    found = pulls.find("press-4")
    assert found is not None
    assert found.images == frozenset()


def test_a_device_without_the_edge_runtime_runs_no_images(pulls: DevicePulls, identities: Identities) -> None:
    identities.create("thermometer")
    found = pulls.find("thermometer")
    assert found is not None
    assert found.images == frozenset()
