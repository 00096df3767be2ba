"""The gateway's certificate: kept while it fits, made anew when it does not."""

import datetime
import logging
from pathlib import Path

import pytest

from sanderling.edge.certificates import GatewayCa
from sanderling.edge.layout import Layout

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NAMES = ["localhost", "127.0.0.1"]


def certificate_in(folder: Path) -> Path:
    (found,) = folder.rglob("server.pem")
    return found


def ca_in(folder: Path) -> GatewayCa:
    return GatewayCa(Layout(folder), NOW)


def test_a_certificate_that_fits_is_kept_over_a_restart(tmp_path: Path) -> None:
    ca_in(tmp_path).server_context(NAMES, NOW)
    before = certificate_in(tmp_path).read_bytes()
    ca_in(tmp_path).server_context(NAMES, NOW + datetime.timedelta(days=100))
    assert certificate_in(tmp_path).read_bytes() == before


def test_other_names_or_a_near_end_bring_a_new_one(tmp_path: Path) -> None:
    ca = ca_in(tmp_path)
    seen = set()
    for names, days in ((NAMES, 0), ([*NAMES, "gateway.test"], 0), ([*NAMES, "gateway.test"], 320)):
        ca.server_context(names, NOW + datetime.timedelta(days=days))
        seen.add(certificate_in(tmp_path).read_bytes())
    assert len(seen) == 3


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_certificate_is_made_anew_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ca = ca_in(tmp_path)
    ca.server_context(NAMES, NOW)
    certificate_in(tmp_path).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        ca.server_context(NAMES, NOW)
    assert b"BEGIN CERTIFICATE" in certificate_in(tmp_path).read_bytes()
    assert "made anew" in caplog.text


def test_the_certificate_of_another_ca_is_not_used(tmp_path: Path) -> None:
    ours, other = ca_in(tmp_path / "a"), ca_in(tmp_path / "b")
    ours.server_context(NAMES, NOW)
    other.server_context(NAMES, NOW)
    foreign = certificate_in(tmp_path / "b").read_bytes()
    certificate_in(tmp_path / "a").write_bytes(foreign)
    ours.server_context(NAMES, NOW)
    assert certificate_in(tmp_path / "a").read_bytes() != foreign
