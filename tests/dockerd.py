"""A real dockerd with folders of its own, which leaves nothing.

All of them share the bridge docker0, which dockerd does not name after itself. So none is started with `--bridge=none`,
which removes it under the feet of the others; and only the journey's containers are on it, for two daemons would give
theirs the same addresses.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATH = os.environ["PATH"] + ":/usr/sbin"
DOCKERD = shutil.which("dockerd", path=PATH)


@contextmanager
def running_dockerd(*options: str) -> Iterator[str]:
    """Start it; yield its address, `unix://...`."""
    if os.geteuid() != 0 or DOCKERD is None:
        pytest.skip("dockerd needs root and Debian's package docker.io")
    # Not below pytest's folder: containerd refuses a socket's path over 104 bytes.
    root = Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))
    address = f"unix://{root}/docker.sock"
    command = [DOCKERD, "--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "-H", address]
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen([*command, "--pidfile", f"{root}/pid", *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while b"API listen" not in (root / "log").read_bytes():
            assert daemon.poll() is None, (root / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (root / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield address
    finally:
        daemon.terminate()
        daemon.wait(60)
        _unmount_below(root)
        shutil.rmtree(root)


def _unmount_below(root: Path) -> None:
    """Unmount what dockerd leaves behind: its network namespace, and its own folder."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounts if one.startswith(f"{root}/")]):
        subprocess.run(["umount", "--lazy", mount], check=True)
