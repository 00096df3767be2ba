import os
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.image import SourceFile
from sanderling.server.database import open_database
from sanderling.server.parts import join
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import TlsFiles

SCRIPT = b"def init():\n    pass\n\ndef run(raw_data):\n    return raw_data\n"


def test_content_that_a_waiting_build_needs_outlives_a_start(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    settings, tls = ServerSettings(tmp_path), TlsFiles.within(tmp_path / "tls")
    blobs = FileBlobs(tmp_path / "blobs" / "workspace")
    script, environment, unused = blobs.put(SCRIPT), blobs.put(b"dependencies: []\n"), blobs.put(b"unused")
    parts = join(settings, tls, open_database(tmp_path / "sanderling.db"))
    parts.workspaces.create("demo")
    # The service is not started: the build stays in the queue, as after a stop.
    parts.builds.create(
        "demo",
        "scorer",
        script=SourceFile("score.py", blobs.path(script)),
        environment=blobs.path(environment),
    )
    for digest in (script, environment, unused):
        os.utime(blobs.path(digest), (1000, 1000))
    parts.close()
    again = join(settings, tls, open_database(tmp_path / "sanderling.db"))
    again.close()
    assert {info.digest for info in blobs.digests()} == {script, environment}
