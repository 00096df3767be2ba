"""A true S3 server for tests: `rclone serve s3` over a temporary folder."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from obstore.store import S3Store

from sanderling.blobs import BlobStore, StorePlace, open_store

_BESIDE = Path(sys.executable).with_name("rclone")
RCLONE = str(_BESIDE) if _BESIDE.exists() else shutil.which("rclone")
_READY = re.compile(r"Starting s3 server on \[(https?://127\.0\.0\.1:\d+)/")
BUCKET = "layers"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that answers, and the folder in which its buckets are folders."""

    endpoint: str
    key: str
    secret: str
    root: Path
    pid: int

    @property
    def environment(self) -> Mapping[str, str]:
        """What a user would have in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def kill(self) -> None:
        """Let it be gone."""
        os.kill(self.pid, signal.SIGKILL)

    def open(self, prefix: str) -> BlobStore:
        """Return a new store over the same prefix each time, as another server would."""
        return open_store(StorePlace(f"s3://{BUCKET}/{prefix}"), environment=self.environment)

    def connect(self, prefix: str = "") -> S3Store:
        """Return the bucket as another client sees it."""
        return S3Store(
            BUCKET,
            prefix=prefix or None,
            config={"access_key_id": self.key, "secret_access_key": self.secret, "endpoint": self.endpoint},
            client_options={"allow_http": True},
        )


@contextmanager
def s3_server(folder: Path, tls: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """Serve *folder* on a free port of the loopback; *tls* is a certificate and its key."""
    assert RCLONE is not None
    root, log = folder / "buckets", folder / "rclone.log"
    (root / BUCKET).mkdir(parents=True)
    key, secret = "TEST" + secrets.token_hex(8), secrets.token_hex(16)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "RCLONE_AUTH_KEY": f'"{key},{secret}"'}
    command = [RCLONE, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, str(root)]
    if tls is not None:
        command += ["--cert", str(tls[0]), "--key", str(tls[1])]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stderr=file, stdout=file)
    try:
        deadline = time.monotonic() + 30
        while (ready := _READY.search(log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield S3Server(ready.group(1), key, secret, root, process.pid)
    finally:
        process.kill()  # it has nothing to lose, and would wait for its clients
        process.wait()
