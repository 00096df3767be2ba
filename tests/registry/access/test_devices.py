"""Devices at the registry: what is asked of the hub, and when."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine
from tests.registry.world import Clock, seal, unseal

from sanderling.registry import DeviceStanding, RegistryCredentials, Scope
from sanderling.registry.access.tokens import TokenExpired

SIGNATURE = "SharedAccessSignature sr=hub%2Fdevices%2Fpress-4&sig=x&se=1"


class Hub:
    """Devices by name; the signature of each is its mark."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceStanding] = {}

    def sign_in(self, device_id: str, signature: str) -> DeviceStanding | None:
        found = self.devices.get(device_id)
        return found if found is not None and signature == f"{SIGNATURE}{found.mark}" else None

    def find(self, device_id: str) -> DeviceStanding | None:
        found = self.devices.get(device_id)
        return None if found is None else replace(found, expires_at=None)


@pytest.fixture
def hub(clock: Clock) -> Hub:
    hub = Hub()
    names = frozenset({"demo/digits", "other/scorer"})
    hub.devices["press-4"] = DeviceStanding("press-4", "1", "k", names, clock.now + 120)
    return hub


@pytest.fixture
def credentials(engine: Engine, clock: Clock, hub: Hub) -> RegistryCredentials:
    return RegistryCredentials(engine, seal, unseal, devices=hub, clock=clock, monotonic=clock)


def bearer(credentials: RegistryCredentials, repository: str = "demo/digits") -> str:
    principal = credentials.authenticate("press-4", f"{SIGNATURE}k")
    assert principal is not None
    return credentials.grant(principal.narrowed([Scope.of(repository, "pull", "push")]), 300)


def test_a_device_may_pull_what_its_deployment_names(credentials: RegistryCredentials) -> None:
    principal = credentials.authenticate("press-4", f"{SIGNATURE}k")
    assert principal is not None
    assert {n for n in ("demo/digits", "other/scorer", "demo/x", "demo") if principal.may("pull", n)} == {
        "demo/digits",
        "other/scorer",
    }
    assert not any(principal.may(action, "demo/digits") for action in ("push", "delete"))
    assert credentials.authenticate("press-5", f"{SIGNATURE}k") is None
    assert credentials.authenticate("press-4", f"{SIGNATURE}wrong") is None


def test_a_users_name_may_be_quoted(credentials: RegistryCredentials, hub: Hub) -> None:
    hub.devices["a:b%41"] = replace(hub.devices["press-4"], device_id="a:b%41")
    for user in ("a%3Ab%2541", "a:b%41"):
        assert credentials.authenticate(user, f"{SIGNATURE}k") is not None
    assert credentials.authenticate("a:bA", f"{SIGNATURE}k") is None


def test_rights_are_those_of_the_deployment_at_that_moment(credentials: RegistryCredentials, hub: Hub) -> None:
    token = bearer(credentials)
    standing = hub.devices["press-4"]
    hub.devices["press-4"] = replace(standing, repositories=frozenset({"demo/other"}))
    principal = credentials.verify(token)
    assert principal is not None
    assert not principal.may("pull", "demo/digits")
    assert not principal.may("pull", "demo/other"), "the token was not asked for that"
    hub.devices["press-4"] = standing
    principal = credentials.verify(token)
    assert principal is not None
    assert principal.may("pull", "demo/digits")
    assert not principal.may("push", "demo/digits")


@pytest.mark.parametrize("change", [{"mark": "regenerated"}, {"generation": "2"}, None])
def test_a_device_that_changed_or_went_is_refused_at_once(
    credentials: RegistryCredentials, hub: Hub, change: dict[str, str] | None
) -> None:
    token = bearer(credentials)
    if change is None:
        del hub.devices["press-4"]  # deleted or disabled
    else:
        hub.devices["press-4"] = replace(hub.devices["press-4"], **change)  # type: ignore[arg-type]
    assert credentials.verify(token) is None


def test_a_token_ends_with_the_signature_it_was_got_with(credentials: RegistryCredentials, clock: Clock) -> None:
    token = bearer(credentials)
    clock.now += 119
    assert credentials.verify(token) is not None
    clock.now += 1
    with pytest.raises(TokenExpired):
        credentials.verify(token)


def test_a_named_token_of_a_device_lives_as_long_as_the_device(credentials: RegistryCredentials, hub: Hub) -> None:
    scope = Scope.of("demo/digits", "pull")
    issued = credentials.tokens.create("demo", "press", [scope], device=("press-4", "1"))
    token = credentials.grant(known(credentials, issued.password), 300)
    standing = hub.devices.pop("press-4")
    assert (credentials.verify(token), credentials.authenticate("demo.press", issued.password)) == (None, None)
    hub.devices["press-4"] = replace(standing, mark="its key has nothing to do with it")
    assert credentials.verify(token) is not None
    hub.devices["press-4"] = replace(standing, generation="made again")
    assert (credentials.verify(token), credentials.authenticate("demo.press", issued.password)) == (None, None)
    credentials.tokens.create("demo", "ci", [scope])
    credentials.tokens.delete_of_device("press-4")
    assert [one.name for one in credentials.tokens.of("demo")] == ["ci"]


def known(credentials: RegistryCredentials, password: str):  # type: ignore[no-untyped-def]
    principal = credentials.authenticate("demo.press", password)
    assert principal is not None
    return principal


def test_without_a_hub_there_are_no_devices(engine: Engine) -> None:
    credentials = RegistryCredentials(engine, seal, unseal)
    assert credentials.authenticate("press-4", f"{SIGNATURE}k") is None
