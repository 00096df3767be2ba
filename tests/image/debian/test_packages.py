import pytest

from sanderling.image.debian.packages import PackageIndex, PackageMissing


def stanza(name: str, version: str = "1.0", **fields: str) -> str:
    lines = [f"Package: {name}", f"Version: {version}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in fields.items()]
    lines += [f"Filename: pool/{name}_{version}.deb", f"SHA256: {'00' * 32}", "Size: 7", "Description: a", " b"]
    return "\n".join(lines) + "\n"


def index(*stanzas: str, security: str = "") -> PackageIndex:
    made = PackageIndex()
    made.add("\n".join(stanzas).encode(), "main")
    if security:
        made.add(security.encode(), "security")
    return made


def names(made: PackageIndex, *wanted: str, without: tuple[str, ...] = ()) -> list[str]:
    return [package.name for package in made.closure(wanted, without)]


def test_a_closure_holds_all_that_is_needed_and_no_more() -> None:
    made = index(
        stanza("a", Depends="b (>= 1), c:any | d"),
        stanza("b", Pre_Depends="e"),
        stanza("c", Recommends="f"),
        stanza("d"),
        stanza("e", Depends="a"),
        stanza("f"),
    )
    assert names(made, "a") == ["a", "b", "c", "e"]


def test_the_first_alternative_that_exists_is_taken() -> None:
    assert names(index(stanza("a", Depends="gone | here"), stanza("here")), "a") == ["a", "here"]


def test_a_virtual_package_is_what_provides_it() -> None:
    made = index(
        stanza("a", Depends="virtual"),
        stanza("real", Provides="other, virtual (= 1)"),
        stanza("near", Provides="virtual-x"),
    )
    assert names(made, "a") == ["a", "real"]


def test_what_is_left_out_is_left_out_with_what_only_it_needs() -> None:
    made = index(
        stanza("a", Depends="debconf | debconf-2.0, b"), stanza("debconf", Depends="perl"), stanza("perl"), stanza("b")
    )
    assert names(made, "a", without=("debconf",)) == ["a", "b"]


@pytest.mark.parametrize(
    ("main", "security", "newest"),
    [
        ("1.0-1", "1.0-1+deb12u1", "1.0-1+deb12u1"),
        ("1:0.1", "2.0", "1:0.1"),
        ("1.10", "1.9", "1.10"),
        ("1.0~rc1", "1.0", "1.0"),
    ],
)
def test_of_two_archives_the_newest_version_counts(main: str, security: str, newest: str) -> None:
    found = index(stanza("a", main), security=stanza("a", security)).find("a")
    assert found is not None
    assert found.version == newest
    assert found.archive == ("security" if newest == security else "main")


def test_a_missing_package_is_named_with_who_wants_it() -> None:
    with pytest.raises(PackageMissing, match=r"'gone' \(wanted by a\)"):
        index(stanza("a", Depends="gone")).closure(["a"], ())


def test_the_control_text_for_scanners_holds_no_archive_fields() -> None:
    package = index(stanza("a")).find("a")
    assert package is not None
    assert package.control == "Package: a\nVersion: 1.0\nDescription: a\n b\n"
