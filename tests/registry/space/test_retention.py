"""Rules over a true registry: what they take away, when, and what a race leaves."""

import httpx
import pytest
from tests.registry.space.world import DAY, collect, kinds
from tests.registry.world import LOGIN_SERVER, Clock, push_image, put_manifest

from sanderling.blobs import FileBlobs
from sanderling.errors import Unavailable
from sanderling.oci import Index, Manifest
from sanderling.registry import Registry, RegistryCredentials, Rule
from sanderling.registry.space.report import Kind
from sanderling.registry.space.rules import InUse

pytestmark = pytest.mark.anyio


async def push_daily(client: httpx.AsyncClient, clock: Clock, count: int) -> list[Manifest]:
    """Push images 1 to *count*, a day between them; two days pass after the last."""
    found = []
    for number in range(1, count + 1):
        found.append(await push_image(client, str(number), layer=f"layer {number}".encode()))
        clock.now += DAY
    clock.now += DAY
    return found


async def test_rules_are_kept_in_place_of_those_of_the_same_pattern(registry: Registry) -> None:
    retention = registry.space.retention
    assert retention.rules() == []
    rule = Rule("demo/*", keep_last=3, keep_days=2.5, keep_tags=("v*", "latest"), untagged_days=7)
    retention.set_rule(Rule("demo/*", keep_last=1))
    retention.set_rule(rule)
    retention.set_rule(Rule("demo/a", untagged_days=1))
    assert retention.rules() == [rule, Rule("demo/a", untagged_days=1)]
    assert retention.clear_rule("demo/a")
    assert not retention.clear_rule("demo/a")
    assert retention.rules() == [rule]


async def test_tags_that_no_rule_keeps_go_with_their_images_and_their_bytes(
    client: httpx.AsyncClient, registry: Registry, blobs: FileBlobs, clock: Clock
) -> None:
    images = await push_daily(client, clock, 4)
    registry.space.retention.set_rule(Rule("demo/*", keep_last=2))
    report = await collect(registry)
    assert [one.reference for one in report.gone if one.kind is Kind.TAG] == ["2", "1"]
    assert {one.why for one in report.gone if one.kind is Kind.TAG} == {"not in last 2"}
    assert report.freed_bytes == sum(image.total_size_bytes for image in images[:2])
    assert [tag.name for tag in registry.tags("demo/digits")] == ["4", "3"]
    assert sum(blob.size for blob in blobs.digests()) == sum(i.total_size_bytes - len(i.raw) for i in images[2:])


async def test_what_devices_use_is_kept(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = await push_daily(client, clock, 5)
    used = [f"{LOGIN_SERVER}/demo/digits:1", f"{LOGIN_SERVER}/demo/digits@{images[1].digest}", images[2].config.digest]
    monkeypatch.setattr(registry.space, "_in_use", lambda: used)
    registry.space.retention.set_rule(Rule("demo/digits", keep_last=1))
    report = await collect(registry)
    assert {one.reference for one in report.gone if one.kind is Kind.MANIFEST} == {images[3].digest}
    assert {tag.name for tag in registry.tags("demo/digits")} == {"5", "1", "2"}  # a digest keeps its tags
    assert registry.find_image("demo/digits", images[2].digest)


async def test_rules_are_left_out_when_it_is_not_known_what_devices_use(
    client: httpx.AsyncClient, registry: Registry, blobs: FileBlobs, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_daily(client, clock, 3)
    blobs.put(b"garbage")
    clock.now += 2 * DAY
    registry.space.retention.set_rule(Rule("demo/*", keep_last=1))

    def fails() -> InUse:
        raise Unavailable("the hub does not answer")

    monkeypatch.setattr(registry.space, "_in_use", fails)
    report = await registry.collect_garbage()
    assert "the hub does not answer" in report.problem
    assert kinds(report.gone) == [Kind.BLOB]
    assert len(registry.tags("demo/digits")) == 3


async def test_an_image_that_lost_its_tag_goes_that_many_days_later(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    first = await push_image(client, "1", layer=b"one")
    clock.now += 100 * DAY
    await push_image(client, "1", layer=b"two")
    registry.space.retention.set_rule(Rule("demo/*", untagged_days=7))
    clock.now += 6 * DAY
    assert (await collect(registry)).gone == ()
    clock.now += 2 * DAY
    gone = [one for one in (await collect(registry)).gone if one.kind is Kind.MANIFEST]
    assert [(one.reference, one.why) for one in gone] == [(first.digest, "no tag for 7 days")]


async def test_an_index_goes_with_what_it_alone_names(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    inner = [await push_image(client, f"only-{n}", layer=f"{n}".encode()) for n in range(3)]
    index = Index.build([one.descriptor() for one in inner[:2]])
    other = Index.build([one.descriptor() for one in inner[1:]])
    await put_manifest(client, index.raw, index.media_type, "1")
    for n in range(3):
        registry.delete_image("demo/digits", f"only-{n}")
    clock.now += DAY
    await put_manifest(client, other.raw, other.media_type, "2")
    clock.now += 2 * DAY
    registry.space.retention.set_rule(Rule("demo/*", keep_last=1))
    gone = [one.reference for one in (await collect(registry)).gone if one.kind is Kind.MANIFEST]
    assert gone == [index.digest, inner[0].digest]


@pytest.mark.parametrize("how", ["head", "push"])
async def test_a_manifest_that_a_push_counts_on_stays(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, how: str
) -> None:
    manifest = await push_image(client, "1")
    registry.delete_image("demo/digits", "1")
    registry.space.retention.set_rule(Rule("demo/*", untagged_days=2))
    clock.now += 3 * DAY
    if how == "head":
        assert (await client.head(f"/v2/demo/digits/manifests/{manifest.digest}")).status_code == 200
    else:
        await put_manifest(client, manifest.raw, manifest.media_type, manifest.digest)
    assert (await collect(registry)).gone == ()
    index = Index.build([manifest.descriptor()])
    assert (await put_manifest(client, index.raw, index.media_type, "multi")).status_code == 201
    clock.now += 100 * DAY
    assert (await collect(registry)).gone == ()


async def test_what_was_pushed_again_after_the_plan_was_made_stays(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    images = await push_daily(client, clock, 4)
    retention = registry.space.retention
    ((repository_id, name),) = registry.space._links.repositories()
    plan = retention.plan(repository_id, name, [Rule("demo/*", keep_last=1)], InUse(), DAY)
    assert len(plan.tags) == 3
    await push_image(client, "1", layer=b"layer 1")  # the same image, this very moment
    await put_manifest(client, images[1].raw, images[1].media_type, "again")
    index = Index.build([images[2].descriptor()])
    await put_manifest(client, index.raw, index.media_type, "multi")
    gone = list(retention.apply(repository_id, name, plan))
    assert [(one.kind, one.reference) for one in gone] == [(Kind.TAG, "3"), (Kind.TAG, "2")]
    for reference in ("1", "again", "multi", "4"):
        assert registry.find_image("demo/digits", reference), reference


async def test_a_run_that_is_killed_between_an_index_and_what_it_names_is_taken_up(
    client: httpx.AsyncClient, registry: Registry, clock: Clock
) -> None:
    inner = await push_image(client, "inner")
    index = Index.build([inner.descriptor()])
    await put_manifest(client, index.raw, index.media_type, "old")
    registry.delete_image("demo/digits", "inner")
    clock.now += DAY
    await push_image(client, "new", layer=b"new")
    clock.now += 2 * DAY
    rule = Rule("demo/*", keep_last=1)
    registry.space.retention.set_rule(rule)
    ((repository_id, name),) = registry.space._links.repositories()
    plan = registry.space.retention.plan(repository_id, name, [rule], InUse(), DAY)
    killed = registry.space.retention.apply(repository_id, name, plan)
    assert next(killed).kind is Kind.TAG
    del killed
    registry.delete_image("demo/digits", index.digest)  # stands for a run that came this far
    gone = [one.reference for one in (await collect(registry)).gone if one.kind is Kind.MANIFEST]
    assert gone == [inner.digest]


async def test_rules_are_for_their_own_workspace(
    client: httpx.AsyncClient, registry: Registry, clock: Clock, credentials: RegistryCredentials
) -> None:
    await push_daily(client, clock, 3)
    registry.space.retention.set_rule(Rule("dem/*", keep_last=1))
    registry.space.retention.set_rule(Rule("demo", keep_last=1))
    registry.space.retention.set_rule(Rule("demo/digit", keep_last=1))
    assert (await collect(registry)).gone == ()
