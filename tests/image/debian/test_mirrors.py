from pathlib import Path

import pytest

from sanderling.errors import Invalid
from sanderling.image.debian.mirrors import DEFAULT_MAIN, DEFAULT_SECURITY, choose_mirrors

DEB822 = """# a comment
Types: deb
# http://snapshot.example.org/debian
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example.org/debian-security/
Suites: bookworm-security
Components: main contrib
"""


def test_a_host_without_apt_uses_debians_own_mirrors(tmp_path: Path) -> None:
    mirrors = choose_mirrors(None, None, tmp_path / "none")
    assert (mirrors.main, mirrors.security) == (DEFAULT_MAIN, DEFAULT_SECURITY)


def test_the_hosts_sources_are_used(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    mirrors = choose_mirrors(None, None, tmp_path)
    assert mirrors.main == "http://mirror.example.org/debian"
    assert mirrors.security == "http://mirror.example.org/debian-security"


def test_the_one_line_format_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# deb http://no.example.org/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] https://yes.example.org/debian bookworm main contrib\n"
        "deb-src http://no.example.org/debian bookworm main\n"
    )
    assert choose_mirrors(None, None, tmp_path).main == "https://yes.example.org/debian"


def test_sources_of_another_distribution_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://archive.example.org/ubuntu jammy main\n")
    assert choose_mirrors(None, None, tmp_path).main == DEFAULT_MAIN


def test_a_setting_wins(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://a.example.org/debian bookworm main\n")
    assert choose_mirrors("http://b.example.org/debian/", None, tmp_path).main == "http://b.example.org/debian"


def test_a_setting_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no URL"):
        choose_mirrors("deb.debian.org", None, tmp_path)


DEBIAN = "deb http://yes.example.org/debian bookworm main\n"


@pytest.mark.parametrize(
    "line",
    [
        "deb https://packages.vendor.example/debian/12/prod bookworm main",
        "deb [signed-by=/k.gpg] https://packages.vendor.example/php/ bookworm main",
        "deb https://download.vendor.example/linux/debian bookworm stable",
        "deb http://snapshot.debian.org/archive/debian/20250520T000000Z bookworm main",
        "deb cdrom:[Debian] bookworm main",
        "deb mirror+file:/etc/apt/mirrors bookworm main",
        "deb http://archive.ubuntu.com/ubuntu noble main universe",
    ],
)
def test_what_is_no_mirror_of_debian_does_not_count_although_it_comes_first(tmp_path: Path, line: str) -> None:
    (tmp_path / "sources.list").write_text(f"{line}\n")
    assert choose_mirrors(None, None, tmp_path).main == DEFAULT_MAIN
    (tmp_path / "sources.list").write_text(f"{line}\n{DEBIAN}")
    assert choose_mirrors(None, None, tmp_path).main == "http://yes.example.org/debian"


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "stable", "testing"])
def test_a_mirror_serves_whatever_version_the_host_is_of(tmp_path: Path, suite: str) -> None:
    (tmp_path / "sources.list").write_text(
        f"deb http://m.example.org/debian {suite} main\ndeb http://s.example.org/x {suite}-security main\n"
    )
    mirrors = choose_mirrors(None, None, tmp_path)
    assert (mirrors.main, mirrors.security) == ("http://m.example.org/debian", "http://s.example.org/x")


def test_a_mirror_under_another_name_is_known_by_its_updates(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb https://cache.example.org/debian-remote bookworm main\n"
        "deb https://cache.example.org/debian-remote bookworm-updates main\n"
        "deb http://old.example.org/x stable/updates main\n"
    )
    mirrors = choose_mirrors(None, None, tmp_path)
    assert (mirrors.main, mirrors.security) == (
        "https://cache.example.org/debian-remote",
        "http://old.example.org/x",
    )


def test_deb822_fields_may_go_on_and_sources_may_be_off(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nEnabled: no\nURIs: http://off.example.org/debian\nSuites: bookworm\nComponents: main\n\n"
        "Types: deb deb-src\nURIs:\n http://on.example.org/debian/\n# a comment\n http://two.example.org/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main\nSigned-By:\n -----BEGIN PGP-----\n .\n abc\n"
    )
    assert choose_mirrors(None, None, tmp_path).main == "http://on.example.org/debian"


def test_a_setting_that_is_no_url_is_shown_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        choose_mirrors("ftp://user:secret@mirror.example.org", None, tmp_path)
    assert "secret" not in caught.value.message
