"""What rules keep and take away: pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.registry.space.rules import (
    DAY_S,
    InUse,
    ManifestFacts,
    Plan,
    Rule,
    Snapshot,
    TagFacts,
    plan,
)

NOW = 1000 * DAY_S
GRACE = DAY_S


def repository(tags: dict[str, tuple[str, float]], **manifests: tuple[float, str, str]) -> Snapshot:
    """Tags as name -> (digest, days ago); more manifests as name -> (days ago, subject, children)."""
    facts = {digest: ManifestFacts(digest, 100, "", NOW - age * DAY_S) for digest, age in tags.values()} | {
        name: ManifestFacts(name, 100, subject, NOW - age * DAY_S, frozenset(children.split()))
        for name, (age, subject, children) in manifests.items()
    }
    return Snapshot(
        "demo/a", facts, [TagFacts(name, digest, NOW - age * DAY_S) for name, (digest, age) in tags.items()]
    )


def went(snapshot: Snapshot, *rules: Rule, images: tuple[str, ...] = (), used: tuple[str, ...] = ()) -> str:
    found = plan(snapshot, rules, InUse.parse(images), NOW, GRACE, used)
    return " ".join(sorted([tag.name for tag, _ in found.tags] + [one.digest for one, _ in found.manifests]))


FIVE = repository({f"t{n}": (f"m{n}", 10.0 * n) for n in range(1, 6)})


def test_without_a_rule_nothing_goes() -> None:
    assert plan(FIVE, [], InUse(), NOW, GRACE) == Plan()
    assert went(FIVE, Rule("demo/b", keep_last=1), Rule("other/*", keep_last=1)) == ""
    assert went(FIVE, Rule("demo/*", keep_tags=("x",))) == ""
    assert went(FIVE, Rule("demo/*", untagged_days=1)) == ""


def test_the_last_are_kept_and_the_rest_goes_with_its_manifests() -> None:
    assert went(FIVE, Rule("demo/*", keep_last=3)) == "m4 m5 t4 t5"
    assert went(FIVE, Rule("demo/a", keep_days=25)) == "m3 m4 m5 t3 t4 t5"


def test_what_any_rule_keeps_is_kept() -> None:
    assert went(FIVE, Rule("demo/a", keep_last=1, keep_days=35)) == "m4 m5 t4 t5"
    assert went(FIVE, Rule("demo/*", keep_last=4), Rule("demo/a", keep_last=1)) == "m5 t5"
    assert went(FIVE, Rule("demo/*", keep_tags=("*5",)), Rule("demo/a", keep_last=1)) == "m2 m3 m4 t2 t3 t4"


def test_two_tags_of_one_image_count_once() -> None:
    tags = {"latest": ("m1", 2.0), "1": ("m1", 3.0), "2": ("m2", 4.0), "3": ("m3", 5.0)}
    assert went(repository(tags), Rule("demo/*", keep_last=2)) == "3 m3"


def test_an_image_stays_while_one_of_its_tags_does() -> None:
    tags = {"new": ("m1", 1.5), "old": ("m1", 50.0), "other": ("m2", 60.0)}
    assert went(repository(tags), Rule("demo/*", keep_days=10)) == "m2 old other"


@pytest.mark.parametrize(
    "image",
    [
        "localhost:8443/demo/a:t5",
        "demo.example/demo/a:t5",
        "localhost:8443/demo/a@sha256:" + "5" * 64,
        "sha256:" + "5" * 64,
    ],
)
def test_what_devices_run_or_are_to_run_is_kept(image: str) -> None:
    digest = "sha256:" + "5" * 64
    tags = {f"t{n}": (f"sha256:{str(n) * 64}", 10.0 * n) for n in range(1, 6)}
    gone = went(repository(tags), Rule("demo/*", keep_last=3, untagged_days=1), images=(image, "no reference at all!"))
    assert "t5" not in gone
    assert digest not in gone
    assert "t4" in gone


def test_what_an_engine_reports_by_its_config_is_kept() -> None:
    assert went(FIVE, Rule("demo/*", keep_last=3), used=("m5",)) == "m4 t4 t5"


def test_nothing_goes_within_the_grace_time() -> None:
    tags = {f"t{n}": (f"m{n}", 0.1 * n) for n in range(1, 6)}
    assert went(repository(tags, untagged=(0.9, "", "")), Rule("demo/*", keep_last=1, untagged_days=0.5)) == ""


def test_untagged_manifests_go_only_by_the_rule_for_them() -> None:
    snapshot = repository({"1": ("m1", 2.0)}, old=(9.0, "", ""), new=(5.0, "", ""))
    assert went(snapshot, Rule("demo/*", keep_last=1)) == ""
    assert went(snapshot, Rule("demo/*", untagged_days=7)) == "old"


def test_an_index_keeps_what_it_names_and_takes_it_along() -> None:
    children = {"arm": (90.0, "", ""), "amd": (90.0, "", "")}
    kept = repository({"1": ("m1", 2.0)}, top=(90.0, "", "arm amd"), **children)
    assert went(kept, Rule("demo/*", untagged_days=100)) == ""
    assert went(kept, Rule("demo/*", untagged_days=50)) == "amd arm top"
    tagged = Snapshot("demo/a", kept.manifests, [*kept.tags, TagFacts("multi", "top", NOW - 90 * DAY_S)])
    assert went(tagged, Rule("demo/*", keep_last=5, untagged_days=50)) == ""
    assert went(tagged, Rule("demo/*", keep_last=1)) == "amd arm multi top"
    manifests = {**kept.manifests, "m1": ManifestFacts("m1", 1, "", NOW, frozenset({"arm"}))}
    shared = Snapshot("demo/a", manifests, tagged.tags)
    assert went(shared, Rule("demo/*", keep_last=1)) == "amd multi top"


def test_a_signature_lives_as_long_as_what_it_is_about() -> None:
    about = {"sig": (90.0, "m5", ""), "sigsig": (90.0, "sig", ""), "other": (90.0, "m1", "")}
    snapshot = repository({f"t{n}": (f"m{n}", 10.0 * n) for n in range(1, 6)}, **about)
    assert went(snapshot, Rule("demo/*", keep_last=5, untagged_days=7)) == ""
    assert went(snapshot, Rule("demo/*", keep_last=4)) == "m5 sig sigsig t5"


def test_a_signature_of_what_is_not_here_is_an_untagged_manifest() -> None:
    snapshot = repository({"1": ("m1", 2.0)}, sig=(9.0, "not here", ""))
    assert went(snapshot, Rule("demo/*", keep_last=1)) == ""
    assert went(snapshot, Rule("demo/*", untagged_days=7)) == "sig"


def test_a_signature_with_a_tag_that_is_kept_keeps_its_subject() -> None:
    snapshot = repository({"new": ("m1", 2.0), "old": ("m2", 50.0)}, sig=(50.0, "m2", ""))
    tags = [*snapshot.tags, TagFacts("m2.sig", "sig", NOW - 50 * DAY_S)]
    assert (
        went(Snapshot("demo/a", snapshot.manifests, tags), Rule("demo/*", keep_days=10, keep_tags=("*.sig",))) == "old"
    )


def test_a_signature_of_today_keeps_what_it_is_about_until_tomorrow() -> None:
    snapshot = repository({"new": ("m1", 2.0), "old": ("m2", 50.0)}, sig=(0.5, "m2", ""))
    assert went(snapshot, Rule("demo/*", keep_days=10)) == "old"


def test_what_a_killed_run_left_goes_with_the_next() -> None:
    snapshot = repository({"1": ("m1", 2.0)}, child=(50.0, "", ""))
    assert went(snapshot, Rule("demo/*", keep_last=1)) == ""
    left = Snapshot("demo/a", snapshot.manifests, snapshot.tags, {"child"})
    assert went(left, Rule("demo/*", keep_last=1)) == "child"
    assert plan(left, [], InUse(), NOW, GRACE) == Plan()


@given(st.data())
def test_nothing_that_stays_needs_what_goes_and_the_order_is_safe(data: st.DataObject) -> None:
    names = [f"m{n}" for n in range(10)]
    manifests = {}
    for number, name in enumerate(names):
        earlier = names[:number]
        children = data.draw(st.sets(st.sampled_from(earlier), max_size=3)) if earlier else set()
        subject = data.draw(st.sampled_from(["", "missing", *earlier]))
        age = data.draw(st.floats(0, 40))
        manifests[name] = ManifestFacts(name, 1, subject, NOW - age * DAY_S, frozenset(children))
    tags = [
        TagFacts(f"t{n}", data.draw(st.sampled_from(names)), NOW - data.draw(st.floats(0, 40)) * DAY_S)
        for n in range(5)
    ]
    days = st.none() | st.floats(0.5, 40)
    rule = Rule("demo/a", data.draw(st.none() | st.integers(1, 5)), data.draw(days), ("t0",), data.draw(days))
    used = data.draw(st.sets(st.sampled_from(names), max_size=2))
    found = plan(Snapshot("demo/a", manifests, tags), [rule], InUse(), NOW, GRACE, used)
    going_tags = {tag.name for tag, _ in found.tags}
    going = [one.digest for one, _ in found.manifests]
    assert len(set(going)) == len(going)
    assert "t0" not in going_tags
    assert not used & set(going)
    for tag in tags:
        if tag.name not in going_tags:
            assert tag.digest not in going
        else:
            assert NOW - tag.pushed_at > GRACE
    for name, manifest in manifests.items():
        if name not in going:
            assert not manifest.children & set(going)
        else:
            assert NOW - manifest.seen_at > GRACE
            assert all(going.index(name) < going.index(child) for child in manifest.children if child in going)
            if manifest.subject in going and is_free_of_indexes(manifest.subject, manifests, going):
                assert going.index(manifest.subject) < going.index(name)


def is_free_of_indexes(digest: str, manifests: dict[str, ManifestFacts], going: list[str]) -> bool:
    """Say whether no index that goes names *digest*, or what it is about: then nothing else comes before it."""
    if any(digest in manifests[one].children for one in going):
        return False
    return manifests[digest].subject not in going or is_free_of_indexes(manifests[digest].subject, manifests, going)


def test_an_index_about_what_it_names_goes_before_it() -> None:
    old = {"child": (50.0, "", ""), "top": (50.0, "child", "child"), "sig": (50.0, "top", "")}
    snapshot = repository({"1": ("m1", 2.0)}, **old)
    found = plan(snapshot, [Rule("demo/*", untagged_days=7)], InUse(), NOW, GRACE)
    assert [one.digest for one, _ in found.manifests] == ["top", "child", "sig"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pattern": "demo/*"},
        {"pattern": "*", "keep_last": 1},
        {"pattern": "demo/../x", "keep_last": 1},
        {"pattern": "Demo/*", "keep_last": 1},
        {"pattern": "demo/*", "keep_last": 0},
        {"pattern": "demo/*", "keep_last": 10**9},
        {"pattern": "demo/*", "keep_days": 0.0},
        {"pattern": "demo/*", "keep_days": float("nan")},
        {"pattern": "demo/*", "untagged_days": -1.0},
        {"pattern": "demo/*", "keep_tags": ("",)},
        {"pattern": "demo/*", "keep_tags": ("a/b",)},
        {"pattern": "demo/*", "keep_tags": ("v*",) * 101},
    ],
)
def test_a_rule_that_says_nothing_or_the_impossible_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        Rule(**wrong)  # type: ignore[arg-type]


IMAGE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def companion(digest: str, suffix: str = ".sig") -> str:
    return digest.replace(":", "-") + suffix


def signed(*images: tuple[str, str, float], **manifests: tuple[float, str, str]) -> Snapshot:
    """Images as (tag, digest, days ago), each with a signature under cosign's tag, `s-TAG`, a little later."""
    tags = {tag: (digest, age) for tag, digest, age in images}
    tags |= {companion(digest): (f"s-{tag}", age - 0.01) for tag, digest, age in images}
    return repository(tags, **manifests)


def test_a_signature_under_a_tag_goes_with_its_image_and_counts_for_none() -> None:
    images = signed(("new", IMAGE, 2.0), ("old", OTHER, 9.0))
    assert went(images, Rule("demo/*", keep_last=2)) == ""
    assert went(images, Rule("demo/*", keep_last=1)) == f"old s-old {companion(OTHER)} {OTHER}"
    assert went(images, Rule("demo/*", keep_days=5)) == f"old s-old {companion(OTHER)} {OTHER}"


def test_a_signature_that_names_its_subject_does_not_keep_an_image_whose_tag_goes() -> None:
    images = signed(("new", IMAGE, 2.0), ("old", OTHER, 9.0), **{"s-old": (9.0, OTHER, "")})
    assert went(images, Rule("demo/*", keep_last=1)) == f"old s-old {companion(OTHER)} {OTHER}"


def test_a_signature_whose_image_is_gone_is_a_manifest_without_a_tag() -> None:
    left = repository({companion(OTHER): ("s-old", 9.0), "new": (IMAGE, 2.0)})
    assert went(left, Rule("demo/*", keep_last=1)) == ""
    assert went(left, Rule("demo/*", untagged_days=5)) == f"s-old {companion(OTHER)}"


def test_a_signature_that_has_an_images_name_too_stays_by_it() -> None:
    tags = {"new": (IMAGE, 2.0), companion(OTHER): ("s-old", 9.0), "kept": ("s-old", 1.5), "old": (OTHER, 9.0)}
    assert went(repository(tags), Rule("demo/*", keep_days=5)) == "old"
    assert went(repository(tags | {"kept": ("s-new", 1.5)}), Rule("demo/*", keep_days=5)) == (
        f"old s-old {companion(OTHER)} {OTHER}"
    )


def test_the_list_of_referrers_that_stands_in_for_the_api_goes_with_its_image() -> None:
    tags = {"new": (IMAGE, 2.0), "old": (OTHER, 9.0), companion(OTHER, ""): ("list", 9.0)}
    images = repository(tags, list=(9.0, "", "sbom"), sbom=(9.0, OTHER, ""))
    assert went(images, Rule("demo/*", keep_last=1)) == f"list old sbom {companion(OTHER, '')} {OTHER}"
