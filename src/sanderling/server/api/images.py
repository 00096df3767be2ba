"""Images of a workspace: build, watch, cancel, list, delete."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Response
from pydantic import Field

from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.image import ImageBuild, ModelFiles, SourceFile, size_report
from sanderling.oci import Digest
from sanderling.server.api.depends import MAX_WAIT_S, CallerDep, PartsDep, Shape, WorkspaceDep, wait_for
from sanderling.server.parts import Parts

router = APIRouter(prefix="/workspaces/{ws}/images", tags=["images"])

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
# Waiting readers of logs hold a thread each, of these: they must not take those of other requests.
_log_threads = anyio.CapacityLimiter(64)


class Content(Shape):
    path: str
    digest: str


class ContentWithMode(Content):
    mode: int = 0o644


class EnvironmentContent(Shape):
    digest: str


class NewImage(Shape):
    """environment: the conda file; or requirements: pip's. wheels: the files that these name by path.

    models: "name:version". platforms: null builds for the server's own.
    base: the image to build upon, as docker pull takes it; null is Debian.
    gate: whether init(), and run() with sampleInput, are tried before the image is published.
    dockerfile: steps upon the image; context: the files that they copy.
    """

    name: str
    script: Content
    files: list[ContentWithMode] = Field(default_factory=list)
    environment: EnvironmentContent | None = None
    models: list[str] = Field(default_factory=list)
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    platforms: list[str] | None = None
    schema_file: Content | None = Field(default=None, alias="schema")  # pydantic has a `schema` of its own
    base: str | None = Field(default=None, max_length=1024)
    requirements: EnvironmentContent | None = None
    wheels: list[Content] = Field(default_factory=list)
    compression: Literal["gzip", "zstd"] = "gzip"
    sample_input: Content | None = None
    gate: bool = True
    dockerfile: EnvironmentContent | None = None
    context: list[ContentWithMode] = Field(default_factory=list)


class Culprit(Shape):
    """What a failed build names as its cause, as far as it is known."""

    file: str | None = None
    line: int | None = None
    package: str | None = None


class ImageShape(Shape):
    name: str
    version: int
    id: str
    state: State
    location: str
    digest: str | None
    size_bytes: int | None
    platforms: list[str]
    models: list[str]
    tags: dict[str, str]
    properties: dict[str, str]
    description: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    error: str | None
    error_lines: list[str] = Field(default_factory=list, description="the last lines of a failed build's log")
    culprit: Culprit | None = None
    requested_by: str | None = None


class ImageList(Shape):
    images: list[ImageShape]


class PackageSize(Shape):
    name: str
    version: str
    size_bytes: int


class LayerSize(Shape):
    """isNew: a device that has the previous image must fetch it. A package's size is that of its own file."""

    digest: str
    title: str
    size_bytes: int
    is_new: bool
    shared_with: list[str]
    packages: list[PackageSize]


class PlatformSizes(Shape):
    """Bytes as compressed: what a pull moves."""

    platform: str
    size_bytes: int
    shared_bytes: int
    download_bytes: int
    layers: list[LayerSize]


class ImageSizes(Shape):
    """previous: the image that a device is taken to have; null when there is none."""

    id: str
    previous: str | None
    platforms: list[PlatformSizes]


class LogEvent(Shape):
    """bytes and totalBytes are there when the event is progress."""

    n: int
    at: datetime
    step: str
    text: str
    level: str
    bytes: int | None = None
    total_bytes: int | None = None


class LogPage(Shape):
    events: list[LogEvent]
    next: int
    state: State


@router.post("", status_code=202)
def build_image(parts: PartsDep, ws: WorkspaceDep, caller: CallerDep, body: NewImage) -> ImageShape:
    """Queue a build from content that was sent before. Its log tells how it goes."""
    with parts.models_in_use:
        build = parts.builds.create(
            ws,
            body.name,
            script=SourceFile(body.script.path, _source(parts, ws, body.script.path, body.script.digest)),
            environment=_source(parts, ws, "the environment", body.environment.digest) if body.environment else None,
            files=[
                SourceFile(file.path, _source(parts, ws, file.path, file.digest), bool(file.mode & 0o100))
                for file in body.files
            ],
            models=[_model(parts, ws, model) for model in body.models],
            platforms=body.platforms if body.platforms is not None else [parts.platform],
            tags=body.tags,
            properties=body.properties,
            description=body.description,
            schema=_file(parts, ws, body.schema_file),
            base=body.base,
            requirements=(
                _source(parts, ws, "the requirements", body.requirements.digest) if body.requirements else None
            ),
            wheels=[SourceFile(file.path, _source(parts, ws, file.path, file.digest)) for file in body.wheels],
            compression=body.compression,
            sample_input=_sample(parts, ws, body.sample_input) if body.sample_input else None,
            gate=body.gate,
            requested_by="owner" if caller.is_owner else f"workspace {caller.workspace}",
            dockerfile=_source(parts, ws, "the Dockerfile", body.dockerfile.digest) if body.dockerfile else None,
            context=[
                SourceFile(file.path, _source(parts, ws, file.path, file.digest), bool(file.mode & 0o100))
                for file in body.context
            ],
        )
    return shape(parts, build)


@router.get("")
def list_images(parts: PartsDep, ws: WorkspaceDep, name: str | None = None) -> ImageList:
    """List image versions and how their builds stand, newest first."""
    parts.workspaces.get(ws)
    return ImageList(images=[shape(parts, build) for build in reversed(parts.builds.list(ws, name))])


@router.get("/{name}")
def get_latest_image(parts: PartsDep, ws: WorkspaceDep, name: str) -> ImageShape:
    """Describe the highest version of an image."""
    return shape(parts, parts.builds.get(ws, name))


@router.get("/{name}/versions/{version}")
def get_image(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> ImageShape:
    """Describe one version of an image."""
    return shape(parts, parts.builds.get(ws, name, version))


@router.get("/{name}/versions/{version}/sizes")
def get_image_sizes(
    parts: PartsDep,
    ws: WorkspaceDep,
    name: str,
    version: int,
    previous: Annotated[
        int | None, Query(ge=1, description="the version that a device has; null: the one before")
    ] = None,
) -> ImageSizes:
    """Say where the bytes of an image are: by layer and package, shared with which images, new to a device."""
    build = parts.builds.get(ws, name, version)
    if build.state != "succeeded":
        raise Conflict(f"image '{build.id}' is {build.state}; only an image that was built has sizes")
    built = [other for other in parts.builds.list(ws) if other.state == "succeeded" and other.id != build.id]
    earlier = [other for other in built if other.name == name and other.version < version]
    before = max(earlier, key=lambda other: other.version, default=None)
    if previous is not None:
        before = parts.builds.get(ws, name, previous)
    report = size_report(build.layers, {other.id: other.layers for other in built}, before.layers if before else None)
    shown = {"id": build.id, "previous": before.id if before else None, "platforms": report}
    return ImageSizes.model_validate(shown)


@router.get("/{name}/versions/{version}/log")
async def read_build_log(
    parts: PartsDep,
    ws: WorkspaceDep,
    name: str,
    version: int,
    after: Annotated[int, Query(ge=0, description="the event number to go on from")] = 0,
    wait_s: Annotated[float, Query(ge=0, description=f"wait for the next event, at most {MAX_WAIT_S:g} s")] = 0,
) -> LogPage:
    """Return events after a number; when there are none yet, wait. A build that ended does not make wait."""
    wait_s = min(wait_s, MAX_WAIT_S)

    async def read(wait_s: float) -> dict[str, Any]:
        page = await anyio.to_thread.run_sync(
            lambda: parts.builds.read_log(ws, name, version, after, wait_s),
            limiter=_log_threads,
            abandon_on_cancel=True,
        )
        return page.to_json()

    found = await wait_for(parts, wait_s + 1, lambda: read(wait_s))
    return LogPage.model_validate(found if found is not None else await read(0))


@router.get("/{name}/versions/{version}/record")
def get_build_record(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> dict[str, Any]:
    """Return what is recorded of a build: inputs by digest, seconds by step, layers, who asked, what was to blame."""
    build = parts.builds.get(ws, name, version)
    return {
        "id": build.id,
        "state": build.state,
        "digest": build.digest,
        "sizeBytes": build.size_bytes,
        "seconds": build.seconds,
        "layers": list(build.layers),
        **build.record,
    }


@router.post("/{name}/versions/{version}/cancel")
def cancel_build(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> ImageShape:
    """End a build that waits or runs; 409 when it has ended."""
    return shape(parts, parts.builds.cancel(ws, name, version))


@router.delete("/{name}/versions/{version}", status_code=204)
def delete_image(parts: PartsDep, ws: WorkspaceDep, name: str, version: int) -> Response:
    """Delete an image's record and log, and its tag in the registry. The version is never used again."""
    build = parts.builds.get(ws, name, version)
    if not build.is_finished:
        raise Conflict(f"image '{build.id}' is {build.state}; cancel it before you delete it")
    with suppress(NotFound):
        parts.registry.delete_image(f"{ws}/{name}", str(version))
    parts.builds.delete(ws, name, version)
    return Response(status_code=204)


def shape(parts: Parts, build: ImageBuild) -> ImageShape:
    """Return the JSON shape of an image; its location is the address that clients use now."""
    location = f"{parts.settings.login_server}/{build.workspace}/{build.id}"
    return ImageShape.model_validate(build.to_json() | {"location": location})


def _file(parts: Parts, ws: str, content: Content | None) -> SourceFile | None:
    return SourceFile(content.path, _source(parts, ws, content.path, content.digest)) if content else None


def _source(parts: Parts, ws: str, what: str, digest_text: str) -> Path:
    digest = Digest.parse(digest_text)
    if digest not in parts.workspaces.find_sizes(ws, [digest]):
        raise Invalid(f"the content of {what!r} ({digest}) was not sent to workspace '{ws}'")
    return parts.workspace_blobs.path(digest)


def _sample(parts: Parts, ws: str, sample: Content) -> SourceFile:
    return SourceFile(sample.path, _source(parts, ws, sample.path, sample.digest))


def _model(parts: Parts, ws: str, model_id: str) -> ModelFiles:
    name, colon, number = model_id.rpartition(":")
    if not colon or not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise Invalid(f"the model {model_id!r}: name it with its version, like digits:1")
    model = parts.workspaces.get_model(ws, name, int(number))
    files = {file.path: parts.workspace_blobs.path(file.digest) for file in model.files}
    return ModelFiles(model.name, model.version, files)
