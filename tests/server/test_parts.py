import asyncio
import os
from pathlib import Path

import httpx
import obstore
import pytest
from tests.s3 import BUCKET, s3_server

from sanderling.blobs import FileBlobs, StorePlace
from sanderling.errors import Invalid
from sanderling.image import SourceFile
from sanderling.oci import Digest
from sanderling.server.database import open_database
from sanderling.server.parts import join
from sanderling.server.settings import ServerSettings, place_of_blobs
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


def test_layers_are_in_the_bucket_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").mkdir()
    settings = ServerSettings(tmp_path, blobs=StorePlace(f"s3://{BUCKET}/site"))
    with s3_server(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        parts = join(settings, TlsFiles.within(tmp_path / "tls"), open_database(tmp_path / "sanderling.db"))
        headers = {"Authorization": f"Bearer {parts.owner_token_file.read_text().strip()}"}

        async def push() -> None:
            transport = httpx.ASGITransport(parts.registry.app())
            async with httpx.AsyncClient(transport=transport, base_url="https://x", headers=headers) as client:
                uploads = "/v2/demo/digits/blobs/uploads/"
                response = await client.post(uploads, params={"digest": Digest.of(b"layer")}, content=b"layer")
                assert response.status_code == 201, response.text

        asyncio.run(push())
        parts.close()
        keys = [meta["path"] for meta in obstore.list(s3.connect("site")).collect()]
        assert keys == [f"sha256/{Digest.of(b'layer').hex[:2]}/{Digest.of(b'layer').hex}"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (StorePlace("gs://bucket"), "only folders and s3:// are known"),
        (StorePlace("s3://bucket", endpoint="http://192.0.2.1"), "allow it with --blobs-plain-http"),
    ],
)
def test_a_place_for_layers_that_cannot_be_ends_the_start(tmp_path: Path, place: StorePlace, said: str) -> None:
    engine = open_database(tmp_path / "sanderling.db")
    with pytest.raises(Invalid, match=said):
        join(ServerSettings(tmp_path, blobs=place), TlsFiles.within(tmp_path / "tls"), engine)
    engine.dispose()


def test_how_to_reach_a_bucket_that_is_not_named_is_refused() -> None:
    assert place_of_blobs(None, None, None, False) is None
    assert place_of_blobs("s3://b", None, "r", False) == StorePlace("s3://b", region="r")
    for rest in ((None, "http://x", None, False), (None, None, "r", False), (None, None, None, True)):
        with pytest.raises(Invalid, match="name it with --blobs"):
            place_of_blobs(*rest)
