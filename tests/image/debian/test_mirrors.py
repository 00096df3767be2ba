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
