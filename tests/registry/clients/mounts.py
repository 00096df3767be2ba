"""Whether a client left something mounted."""

from pathlib import Path


def nothing_mounted_below(folder: Path) -> None:
    """Fail when a file system is mounted somewhere in *folder*."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    assert not [one for one in mounted if one.startswith(f"{folder}/")]
