import pytest
from sqlalchemy import Engine, text
from tests.registry.world import Clock, seal, unseal

from sanderling.errors import Invalid
from sanderling.registry import FixedUpstreams, StoredUpstreams, Upstream, UpstreamNotFound
from sanderling.registry.upstream.stored import REFRESH_S, UpstreamExists

HUB = Upstream(
    "hub",
    "docker.io",
    username="ci",
    password="s3cret-word",
    ttl_s=60,
    is_enabled=False,
    is_mirror=True,
    is_shared=True,
    only=("library/*",),
)


@pytest.fixture
def stored(engine: Engine, clock: Clock) -> StoredUpstreams:
    return StoredUpstreams(engine, seal, unseal, clock=clock, monotonic=clock)


def test_a_rule_is_kept_whole_and_its_password_sealed(stored: StoredUpstreams, engine: Engine) -> None:
    assert stored.add(HUB) == HUB
    assert stored.all() == (HUB,)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM registry_upstreams")).one()
    assert b"s3cret-word" not in row.password
    assert "s3cret-word" not in str(row)


def test_a_rule_without_credentials_is_kept(stored: StoredUpstreams) -> None:
    plain = Upstream("peer", "host:5000", is_plain_http=True)
    assert stored.add(plain) == plain


def test_a_name_is_taken_once(stored: StoredUpstreams) -> None:
    stored.add(HUB)
    with pytest.raises(UpstreamExists):
        stored.add(Upstream("hub", "quay.io"))
    assert stored.get("hub") == HUB


def test_a_certificate_that_cannot_be_read_is_refused(stored: StoredUpstreams) -> None:
    with pytest.raises(Invalid, match="certificate"):
        stored.add(Upstream("hub", "docker.io", ca_pem="nothing"))
    assert stored.all() == ()


def test_a_rule_is_switched_and_removed(stored: StoredUpstreams) -> None:
    stored.add(HUB)
    assert stored.set_enabled("hub", True).is_enabled
    stored.remove("hub")
    assert stored.all() == ()
    for change in (lambda: stored.remove("hub"), lambda: stored.set_enabled("hub", True), lambda: stored.get("hub")):
        with pytest.raises(UpstreamNotFound):
            change()


def test_a_change_counts_at_once_here_and_soon_elsewhere(stored: StoredUpstreams, engine: Engine, clock: Clock) -> None:
    other = StoredUpstreams(engine, seal, unseal, clock=clock, monotonic=clock)
    assert other.find_held() is None
    assert other.all() == ()
    stored.add(HUB)
    assert stored.find_held() == (HUB,)
    assert other.find_held() == ()
    clock.now += REFRESH_S
    assert other.find_held() is None
    assert other.all() == (HUB,)


def test_two_rules_of_one_name_in_a_file_are_refused() -> None:
    with pytest.raises(UpstreamExists):
        FixedUpstreams([HUB, HUB])
