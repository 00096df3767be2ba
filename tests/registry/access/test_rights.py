import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.registry import Principal, Scope
from sanderling.registry.access.rights import ACTIONS, parse_wanted

NAMES = st.sampled_from(["demo", "demo/a", "demo/b", "demo/a/c", "other/a"])
PATTERNS = st.sampled_from(["*", "demo/*", "demo/a", "demo/a/*", "other/*"])
SETS = st.sets(st.sampled_from(sorted(ACTIONS)), min_size=1)
SCOPES = st.lists(st.builds(lambda p, a: Scope.of(p, *a), PATTERNS, SETS), max_size=4)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("demo/*", "demo/a", True),
        ("demo/*", "demo/a/b", True),
        ("demo/*", "demo", False),
        ("demo/*", "demox/a", False),
        ("demo/a", "demo/a", True),
        ("demo/a", "demo/ab", False),
        ("*", "any/thing", True),
    ],
)
def test_a_pattern_covers_names(pattern: str, name: str, covered: bool) -> None:
    assert Scope.of(pattern, "pull").covers(name) is covered


@pytest.mark.parametrize(
    ("pattern", "actions"), [("", ["pull"]), ("a*", ["pull"]), ("*/a", ["pull"]), ("a", []), ("a", ["x"])]
)
def test_a_scope_is_checked(pattern: str, actions: list[str]) -> None:
    with pytest.raises(Invalid):
        Scope.of(pattern, *actions)


@given(SCOPES, st.lists(st.tuples(NAMES, SETS), max_size=4), st.booleans(), NAMES, st.sampled_from(sorted(ACTIONS)))
def test_a_narrowed_principal_never_has_more(
    scopes: list[Scope], wanted: list[tuple[str, set[str]]], catalogue: bool, name: str, action: str
) -> None:
    principal = Principal("x", tuple(scopes))
    narrowed = principal.narrowed([Scope(n, frozenset(a)) for n, a in wanted], catalogue=catalogue)
    if narrowed.may(action, name):
        assert principal.may(action, name)
        assert catalogue or any(n == name and a & {action, "pull"} for n, a in wanted)


def test_what_was_refused_once_is_not_worth_asking_again() -> None:
    principal = Principal("x", (Scope.of("demo/*", "pull"),))
    narrowed = principal.narrowed([Scope.of("demo/a", "pull", "push")])
    assert narrowed.may("pull", "demo/a")
    assert not narrowed.could_ask_for("push", "demo/a")
    assert narrowed.could_ask_for("pull", "demo/b")
    assert not principal.could_ask_for("push", "demo/a")


def test_scopes_of_a_token_request_are_read_as_docker_writes_them() -> None:
    wanted, catalogue = parse_wanted(
        [
            "repository:demo/a:pull,push repository:demo/b:*",
            "registry:catalog:*",
            "repository(plugin):demo/c:pull",
            "x:y:z",
        ]
    )
    assert catalogue
    assert {(s.repositories, tuple(sorted(s.actions))) for s in wanted} == {
        ("demo/a", ("pull", "push")),
        ("demo/b", ("delete", "pull", "push")),
        ("demo/c", ("pull",)),
    }


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_scope_may_be_asked_for(texts: list[str]) -> None:
    wanted, _ = parse_wanted(texts)
    assert all(scope.actions <= ACTIONS for scope in wanted)


def test_too_many_scopes_are_refused() -> None:
    with pytest.raises(Invalid, match="50"):
        parse_wanted(["repository:a:pull " * 51])
