"""Images: a scoring script, its environment and its models, built into an OCI image by the server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from sanderling.errors import Invalid, NotFound, SanderlingError, Unavailable
from sanderling.sdk.dockerfile_inputs import files_copied_by
from sanderling.sdk.hints import hinted
from sanderling.sdk.image_inputs import files_named_in
from sanderling.sdk.model import LocalFile, Model, check_pairs, local_file, split_id
from sanderling.sdk.walk import files_beside, schema_place
from sanderling.sdk.wire import Progress, endpoint, parse_time
from sanderling.sdk.workspace import Workspace

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})
POLL_S = 20
UNNAMED_ENVIRONMENT = "the environment file"
UNNAMED_REQUIREMENTS = "the requirements file"
UNNAMED_DOCKERFILE = "the Dockerfile"


class BuildFailed(SanderlingError):
    """The build of an image ended without one.

    Attributes:
        image_id: `name:version`.
        state: failed or cancelled.
        reason: Why.
        lines: The last lines of the build's log, at most 30.
        culprit: What is to blame, as far as it is known: `file`, `line`, `package`.
    """

    def __init__(
        self,
        image_id: str,
        state: str,
        reason: str,
        lines: Sequence[str] = (),
        culprit: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"image {image_id} {state}: {reason}" if reason else f"image {image_id} {state}")
        self.image_id, self.state, self.reason = image_id, state, reason
        self.lines, self.culprit = tuple(lines), dict(culprit or {})


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line of a build's log; with `total_bytes` it is progress.

    Attributes:
        n: Its number, from 1.
        at: When.
        step: Which step of the build: base, resolve, wheels, layers, push, ...
        text: For people.
        level: info, warning or error.
        bytes: Bytes so far, or None.
        total_bytes: Bytes in all, or None.
    """

    n: int
    at: datetime | None
    step: str
    text: str
    level: str
    bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Image:
    """One version of an image, building or built.

    Attributes:
        workspace: Where it belongs.
        name: Its name.
        version: Counts up from 1 for each name.
        state: queued, running, succeeded, failed or cancelled, as it was when asked.
        location: The reference to pull it by, `localhost:8443/demo/digits:1`.
        digest: `sha256:...` of its manifest, once it is built.
        size_bytes: What a device pulls, once it is built.
        platforms: As `linux/amd64`.
        models: The models inside, as `name:version`.
        seconds: How long the build took.
        error: Why it failed.
        error_lines: The last lines of a failed build's log.
        culprit: What a failed build blames, as far as it is known: `file`, `line`, `package`.
        requested_by: Who asked for it: `owner`, or `workspace NAME` for a token of one.
    """

    workspace: Workspace
    name: str
    version: int
    state: str
    location: str
    digest: str | None
    size_bytes: int | None
    platforms: Sequence[str]
    models: Sequence[str]
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime | None
    seconds: float | None
    error: str | None
    error_lines: Sequence[str] = ()
    culprit: Mapping[str, Any] = field(default_factory=dict)
    requested_by: str | None = None

    @property
    def id(self) -> str:
        """`name:version`."""
        return f"{self.name}:{self.version}"

    @classmethod
    def create(
        cls,
        workspace: Workspace,
        name: str,
        script: Path | str,
        environment: Path | str | None = None,
        models: Sequence[Model | str] = (),
        dependencies: Sequence[Path | str] = (),
        platforms: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        compression: str | None = None,
        progress: Progress | None = None,
        schema: Path | str | None = None,
        base: str | None = None,
        requirements: Path | str | None = None,
        sample_input: Path | str | None = None,
        gate: bool = True,
        docker_file: Path | str | None = None,
    ) -> "Image":
        """Ask the server to build an image, and return at once.

        Args:
            workspace: Where the image belongs.
            name: The image's name.
            script: The scoring script with `init()` and `run(raw_data)`.
            environment: The conda environment file (myenv.yml); None means the base's Python alone. Wheels and
                requirements files that it names by path are sent with it.
            models: The models to put inside: objects, `name:version`, or `name` for the latest.
            dependencies: More files and folders beside the script, relative paths kept.
            platforms: As `linux/arm64`; None means the server's own.
            tags: Key and value pairs, which become labels of the image.
            properties: Key and value pairs that never change.
            description: A sentence for people.
            compression: gzip, which every engine reads, or zstd, which is smaller; None means gzip.
            progress: Called with a file's name, bytes sent and bytes in all.
            schema: azureml's schema file, in or below the script's folder; it keeps its place beside the script.
            base: The image to build upon, as `docker pull` takes it; None means Debian.
            requirements: A pip requirements file, in place of the environment.
            sample_input: A file with the body of a request; `run()` must answer it before the image is published.
            gate: Whether `init()`, and `run()` with the sample, are tried before the image is published.
            docker_file: A Dockerfile of extra steps upon the image; the files beside it that they copy are sent too.

        Returns:
            The image, queued; `wait` until it is built.

        Raises:
            NotFound: A file or model is not there. Nothing was changed.
            Invalid: A file cannot be read, or the server refuses the script or the environment.
        """
        for label, pairs in (("tags", tags), ("properties", properties)):
            check_pairs(label, pairs)
        script_file = _scoring_script(Path(script))
        files = [file for item in dependencies for file in _dependency(Path(item), Path(script).absolute().parent)]
        conda = local_file(Path(environment).absolute(), Path(environment).name) if environment is not None else None
        described = _schema(Path(schema), Path(script).absolute().parent) if schema is not None else None
        pip = local_file(Path(requirements).absolute(), Path(requirements).name) if requirements is not None else None
        wheels = [file for listing in (conda, pip) if listing for file in files_named_in(listing.source)]
        sample = local_file(Path(sample_input).absolute(), Path(sample_input).name) if sample_input else None
        steps, context = _dockerfile(docker_file)
        ids = [_model_id(workspace, model) for model in models]
        for file in (
            script_file,
            *files,
            *(one for one in (conda, pip, described, sample, steps) if one),
            *wheels,
            *context,
        ):
            workspace.client.put_blob(workspace.name, file.digest, file.source, file.size, progress)
        body: dict[str, Any] = {
            "name": name,
            "script": {"path": script_file.path, "digest": script_file.digest},
            "files": [{"path": f.path, "digest": f.digest, "mode": _mode(f)} for f in files],
            "environment": {"digest": conda.digest} if conda else None,
            "models": ids,
            "tags": dict(tags or {}),
            "properties": dict(properties or {}),
            "description": description or "",
            "platforms": list(platforms) if platforms else None,
            "schema": {"path": described.path, "digest": described.digest} if described else None,
            "base": base,
            "sampleInput": {"path": sample.path, "digest": sample.digest} if sample else None,
            "gate": gate,
        }
        if pip or wheels:  # a server that knows neither is not asked for them
            body["requirements"] = {"digest": pip.digest} if pip else None
            body["wheels"] = [{"path": f.path, "digest": f.digest} for f in wheels]
        if steps:
            body["dockerfile"] = {"digest": steps.digest}
            body["context"] = [{"path": f.path, "digest": f.digest, "mode": _mode(f)} for f in context]
        images = endpoint("api", "v1", "workspaces", workspace.name, "images")
        if compression is not None:
            body["compression"] = compression
        try:
            answer = workspace.client.call("POST", images, body=body)
        except Invalid as error:
            # The server has the file's bytes, not its name.
            for unnamed, path in (
                (UNNAMED_ENVIRONMENT, environment),
                (UNNAMED_REQUIREMENTS, requirements),
                (UNNAMED_DOCKERFILE, docker_file),
            ):
                if path is not None and error.message.startswith(unnamed):
                    raise Invalid(f"{path}{error.message.removeprefix(unnamed)}") from error
            raise
        return cls.from_json(workspace, answer)

    @classmethod
    def get(cls, workspace: Workspace, name: str, version: int | None = None) -> "Image":
        """Look an image up.

        Args:
            workspace: Where it belongs.
            name: Its name, or `name:version`.
            version: The version; None means the latest.

        Returns:
            The image.

        Raises:
            NotFound: No such image, or no such version of it.
        """
        if version is None and ":" in name:
            name, version = split_id(name)
        segments = ["api", "v1", "workspaces", workspace.name, "images", name]
        if version is not None:
            segments += ["versions", str(version)]
        try:
            return cls.from_json(workspace, workspace.client.call("GET", endpoint(*segments)))
        except NotFound as error:
            raise hinted(error, "sanderling image list") from None

    @classmethod
    def list(cls, workspace: Workspace, name: str | None = None) -> Sequence["Image"]:
        """List images.

        Args:
            workspace: Where to look.
            name: Only versions of this image.

        Returns:
            The images.
        """
        answer = workspace.client.call(
            "GET", endpoint("api", "v1", "workspaces", workspace.name, "images"), params={"name": name}
        )
        entries = answer.get("images", []) if isinstance(answer, dict) else answer
        return [cls.from_json(workspace, entry) for entry in entries]

    def refresh(self) -> "Image":
        """Return the image as it is now."""
        return Image.get(self.workspace, self.name, self.version)

    def wait(self, on_event: Callable[[LogEvent], None] | None = None, timeout_s: float | None = None) -> "Image":
        """Wait until the build has ended.

        Args:
            on_event: Called with each line of the log, from the first.
            timeout_s: Give up waiting after so long; the build goes on. None means no limit.

        Returns:
            The built image.

        Raises:
            BuildFailed: It failed or was cancelled.
            Unavailable: It is not done within `timeout_s`.
        """
        for event in self.logs(follow=True, timeout_s=timeout_s):
            if on_event:
                on_event(event)
        image = self.refresh()
        if image.state != "succeeded":
            failed = BuildFailed(image.id, image.state, image.error or "", image.error_lines, image.culprit)
            raise hinted(failed, f"sanderling image logs {image.id}")
        return image

    def logs(self, *, follow: bool = False, timeout_s: float | None = None) -> Iterator[LogEvent]:
        """Read the build's log.

        Args:
            follow: Go on until the build has ended.
            timeout_s: With `follow`, give up after so long.

        Yields:
            The log's lines, from the first.

        Raises:
            Unavailable: It is not done within `timeout_s`.
        """
        after = 0
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            wait_s = POLL_S if follow else 0
            answer = self.workspace.client.call(
                "GET",
                endpoint(*self._segments, "log"),
                params={"after": after, "wait_s": wait_s},
                timeout_s=wait_s + self.workspace.client.timeout_s,
            )
            for entry in answer["events"]:
                yield _event(entry)
            moved, after = answer["next"] != after, answer["next"]
            ended = answer["state"] in FINAL_STATES
            if (ended or not follow) and not moved:
                return
            if deadline is not None and monotonic() > deadline and not ended:
                raise Unavailable(f"image {self.id} is still {answer['state']} after {timeout_s:.0f} s")

    def sizes(self, previous: int | None = None) -> Mapping[str, Any]:
        """Say where the image's bytes are.

        Args:
            previous: The version that a device has; None means the one built before this one.

        Returns:
            `{id, previous, platforms: [{platform, sizeBytes, sharedBytes, downloadBytes, layers}]}`, a layer being
            `{digest, title, sizeBytes, isNew, sharedWith, packages: [{name, version, sizeBytes}]}`. Bytes are as
            compressed. `downloadBytes` is what a device that has the previous version fetches.

        Raises:
            Conflict: The image is not built.
            NotFound: There is no such previous version.
        """
        path = endpoint(*self._segments, "sizes")
        return dict(self.workspace.client.call("GET", path, params={"previous": previous}))

    def cancel(self) -> None:
        """Ask the server to stop the build."""
        self.workspace.client.call("POST", endpoint(*self._segments, "cancel"))

    def delete(self) -> None:
        """Delete this version of the image and its tag in the registry."""
        self.workspace.client.call("DELETE", endpoint(*self._segments))

    @property
    def _segments(self) -> tuple[str, ...]:
        return ("api", "v1", "workspaces", self.workspace.name, "images", self.name, "versions", str(self.version))

    @classmethod
    def from_json(cls, workspace: Workspace, values: Mapping[str, Any]) -> "Image":
        """Build an image from what the API says of it."""
        return cls(
            workspace=workspace,
            name=values["name"],
            version=int(values["version"]),
            state=values["state"],
            location=values.get("location") or "",
            digest=values.get("digest"),
            size_bytes=values.get("sizeBytes"),
            platforms=tuple(values.get("platforms") or ()),
            models=tuple(values.get("models") or ()),
            tags=dict(values.get("tags") or {}),
            properties=dict(values.get("properties") or {}),
            description=values.get("description") or "",
            created_time=parse_time(values.get("createdAt")),
            seconds=values.get("seconds"),
            error=values.get("error"),
            error_lines=tuple(values.get("errorLines") or ()),
            culprit={key: value for key, value in (values.get("culprit") or {}).items() if value is not None},
            requested_by=values.get("requestedBy"),
        )

    def record(self) -> Mapping[str, Any]:
        """Ask for the build's record: inputs by digest, seconds by step, layers, who asked."""
        answer = self.workspace.client.call("GET", endpoint(*self._segments, "record"))
        return dict(answer)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "state": self.state,
            "location": self.location,
            "digest": self.digest,
            "sizeBytes": self.size_bytes,
            "platforms": list(self.platforms),
            "models": list(self.models),
            "tags": dict(self.tags),
            "properties": dict(self.properties),
            "description": self.description,
            "createdAt": self.created_time.isoformat() if self.created_time else None,
            "seconds": self.seconds,
            "error": self.error,
            "errorLines": list(self.error_lines),
            "culprit": dict(self.culprit) or None,
            "requestedBy": self.requested_by,
        }


def _event(entry: Mapping[str, Any]) -> LogEvent:
    return LogEvent(
        n=int(entry["n"]),
        at=parse_time(entry.get("at")),
        step=entry.get("step") or "",
        text=entry.get("text") or "",
        level=entry.get("level") or "info",
        bytes=entry.get("bytes"),
        total_bytes=entry.get("totalBytes"),
    )


def _scoring_script(path: Path) -> LocalFile:
    if path.suffix != ".py":
        raise hinted(Invalid(f"{path} is not a Python file"), "name the scoring script, as in --script score.py")
    return local_file(path.absolute(), path.name)


def _schema(path: Path, beside: Path) -> LocalFile:
    return local_file(path.absolute(), schema_place(path, beside))


def _dependency(path: Path, beside: Path) -> Iterator[LocalFile]:
    """The files of one dependency, with their paths relative to the script's folder when they are in it."""
    for source, place in files_beside(path, beside):
        yield local_file(source, place)


def _dockerfile(path: Path | str | None) -> tuple[LocalFile | None, list[LocalFile]]:
    """A Dockerfile and the files that its steps copy."""
    if path is None:
        return None, []
    context = files_copied_by(Path(path))
    return local_file(Path(path).absolute(), Path(path).name), context


def _model_id(workspace: Workspace, model: Model | str) -> str:
    if isinstance(model, Model):
        return model.id
    try:
        return Model.get(workspace, model).id
    except NotFound as error:
        raise hinted(error, f"sanderling model register PATH --name {model}") from None


def _mode(file: LocalFile) -> int:
    return 0o755 if file.source.stat().st_mode & 0o100 else 0o644
