"""A collection with its dry run, and the words for time."""

from collections.abc import Iterable

from sanderling.registry import Registry
from sanderling.registry.space.report import Gone, Kind, Report

HOUR = 3600.0
DAY = 24 * HOUR


def kinds(gone: Iterable[Gone]) -> list[Kind]:
    return [one.kind for one in gone]


async def collect(registry: Registry) -> Report:
    """Collect; what the dry run before it says is what goes."""
    foreseen = await registry.collect_garbage(dry_run=True)
    assert foreseen.is_dry_run
    again = await registry.collect_garbage(dry_run=True)
    assert set(again.gone) == set(foreseen.gone)  # it has changed nothing
    report = await registry.collect_garbage()
    assert not report.is_dry_run
    assert sorted(report.gone, key=repr) == sorted(foreseen.gone, key=repr)
    assert report.freed_bytes == foreseen.freed_bytes
    assert (await registry.collect_garbage(dry_run=True)).gone == ()
    return report
