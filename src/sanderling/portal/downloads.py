"""Sending a model's file to a browser.

The SDK fetches it into a temporary folder, where its digest is verified before the
first byte goes out; the folder goes when the answer is sent.
"""

import tempfile
from pathlib import Path, PurePosixPath

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from sanderling.errors import NotFound
from sanderling.portal.visit import Visit
from sanderling.sdk import Model
from sanderling.sdk.wire import endpoint


def download(visit: Visit) -> Response:
    """Return one file of a model as an attachment, whatever it holds.

    Raises:
        NotFound: The model has no such file.
    """
    model = Model.get(visit.home, visit.params["name"], visit.params["version"])
    file = next((one for one in model.files if one.path == visit.params["path"]), None)
    if file is None:
        raise NotFound(f"{model.id} has no file {visit.params['path']!r}")
    address = ("api", "v1", "workspaces", visit.home.name, "models", model.name, "versions", str(model.version))
    folder = tempfile.TemporaryDirectory(prefix="sanderling-portal-")
    try:
        target = Path(folder.name, "file")
        parts = PurePosixPath(file.path).parts
        visit.client.download(endpoint(*address, "files", *parts), target, digest=file.digest)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        target,
        media_type="application/octet-stream",
        filename=parts[-1],
        content_disposition_type="attachment",
        background=BackgroundTask(folder.cleanup),
    )
