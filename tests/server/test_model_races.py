"""A model is deleted while an image that takes it is made."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.server.test_parts import SCRIPT

from sanderling.errors import Conflict, NotFound
from sanderling.server.access import Caller
from sanderling.server.api.images import Content, NewImage, build_image
from sanderling.server.api.models import delete_model
from sanderling.server.database import open_database
from sanderling.server.parts import Parts, join
from sanderling.server.settings import ServerSettings
from sanderling.server.tls import TlsFiles


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "secrets").mkdir()
    database = open_database(tmp_path / "sanderling.db")
    parts = join(ServerSettings(tmp_path), TlsFiles.within(tmp_path / "tls"), database)
    parts.workspaces.create("demo")
    for content in (SCRIPT, b"model"):
        parts.workspaces.admit("demo", parts.workspace_blobs.put(content))
    parts.workspaces.register("demo", "m", {"m.pkl": parts.workspace_blobs.put(b"model")}, {}, {})
    yield parts
    parts.close()


def test_no_image_takes_a_model_that_is_being_deleted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Content(path="score.py", digest=str(parts.workspace_blobs.put(SCRIPT)))
    wanted = NewImage(name="scorer", script=script, models=["m:1"])
    find_users, is_between = parts.builds.find_users, threading.Event()

    def slowly(*names: object) -> object:
        found = find_users(*names)  # type: ignore[arg-type]
        is_between.set()
        threading.Event().wait(0.5)  # time enough for the image, were it not kept out
        return found

    monkeypatch.setattr(parts.builds, "find_users", slowly)
    with ThreadPoolExecutor() as threads:
        deletion = threads.submit(delete_model, parts, "demo", "m", 1)
        assert is_between.wait(5)
        image = threads.submit(build_image, parts, "demo", Caller("owner", None, None), wanted)
        outcomes = [_outcome(deletion.result), _outcome(image.result)]
    assert outcomes == ["done", "NotFound"]


def _outcome(result: Callable[[], object]) -> str:
    try:
        result()
    except (Conflict, NotFound) as error:
        return type(error).__name__
    return "done"
