"""Models: files with a name, a version and tags."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.sdk.hints import hinted
from sanderling.sdk.walk import walk_files
from sanderling.sdk.wire import Progress, endpoint, parse_time
from sanderling.sdk.workspace import Workspace

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be sent: its path here, its path in the model or image, its size and digest."""

    source: Path
    path: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a registered model: path, `sha256:...`, size in bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Model:
    """One version of a registered model.

    Attributes:
        workspace: Where it is registered.
        name: Its name.
        version: Counts up from 1 for each name and never returns.
        tags: Key and value pairs to search by.
        properties: Key and value pairs that never change.
        description: A sentence for people.
        created_time: When it was registered.
        files: Its files. A registered folder keeps its name as the first part of each path.
        size_bytes: The files' size together.
    """

    workspace: Workspace
    name: str
    version: int
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    description: str
    created_time: datetime | None
    files: Sequence[ModelFile]
    size_bytes: int

    @property
    def id(self) -> str:
        """`name:version`."""
        return f"{self.name}:{self.version}"

    @classmethod
    def register(
        cls,
        workspace: Workspace,
        model_path: Path | str,
        model_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        progress: Progress | None = None,
    ) -> "Model":
        """Register a file or a folder as the next version of a model.

        Args:
            workspace: Where to register it.
            model_path: The file or folder.
            model_name: The model's name; None means the file's or folder's name.
            tags: Key and value pairs to search by.
            properties: Key and value pairs that never change.
            description: A sentence for people.
            progress: Called with a file's name, bytes sent and bytes in all.

        Returns:
            The registered version.

        Raises:
            NotFound: There is no such file or folder.
            Invalid: It cannot be read, is empty, or the name or a tag cannot be used. Nothing was sent.
        """
        path = Path(model_path)
        name = model_name or path.name
        if not NAME.fullmatch(name):
            raise hinted(
                Invalid(f"{name!r} cannot name a model: letters, digits, '-', '.', '_', at most 255"),
                "another name, such as 'digits'",
            )
        for label, pairs in (("tags", tags), ("properties", properties)):
            check_pairs(label, pairs)
        files = list(local_files(path))
        for file in files:
            workspace.client.put_blob(workspace.name, file.digest, file.source, file.size, progress)
        answer = workspace.client.call(
            "POST",
            endpoint("api", "v1", "workspaces", workspace.name, "models"),
            body={
                "name": name,
                "files": [{"path": f.path, "digest": f.digest, "size": f.size} for f in files],
                "tags": dict(tags or {}),
                "properties": dict(properties or {}),
                "description": description or "",
            },
        )
        return cls.from_json(workspace, answer)

    @classmethod
    def get(cls, workspace: Workspace, name: str, version: int | None = None) -> "Model":
        """Look a model up.

        Args:
            workspace: Where it is registered.
            name: Its name, or `name:version`.
            version: The version; None means the latest.

        Returns:
            The model.

        Raises:
            NotFound: No such model, or no such version of it.
        """
        if version is None and ":" in name:
            name, version = split_id(name)
        segments = ["api", "v1", "workspaces", workspace.name, "models", name]
        if version is not None:
            segments += ["versions", str(version)]
        try:
            return cls.from_json(workspace, workspace.client.call("GET", endpoint(*segments)))
        except NotFound as error:
            raise hinted(error, "sanderling model list") from None

    @classmethod
    def list(
        cls, workspace: Workspace, name: str | None = None, tag: str | None = None, latest: bool = False
    ) -> Sequence["Model"]:
        """List models.

        Args:
            workspace: Where to look.
            name: Only versions of this model.
            tag: Only models with this tag: `key` or `key=value`.
            latest: Only the latest version of each.

        Returns:
            The models.
        """
        answer = workspace.client.call(
            "GET",
            endpoint("api", "v1", "workspaces", workspace.name, "models"),
            params={"name": name, "tag": tag, "latest": True if latest else None},
        )
        entries = answer.get("models", []) if isinstance(answer, dict) else answer
        return [cls.from_json(workspace, entry) for entry in entries]

    def download(
        self, target_dir: Path | str = ".", *, exist_ok: bool = False, progress: Progress | None = None
    ) -> Path:
        """Fetch the model's files.

        Args:
            target_dir: The folder to put them in; it is made.
            exist_ok: Replace files that are there.
            progress: Called with a file's name, bytes so far and bytes in all.

        Returns:
            The file, or the folder, as it was registered.

        Raises:
            Conflict: Something is there already, and `exist_ok` is not set. Nothing was fetched.
        """
        folder = Path(target_dir)
        targets = [(file, folder / safe_path(file.path)) for file in self.files]
        top = folder / PurePosixPath(self.files[0].path).parts[0] if self.files else folder
        if top != folder and top.exists() and not exist_ok:
            raise hinted(Conflict(f"{top} is there already"), "another folder, or --force to replace it")
        for file, target in targets:
            path = endpoint(*self._segments, "files") + endpoint(*PurePosixPath(file.path).parts)
            self.workspace.client.download(path, target, digest=file.digest, progress=progress)
        return top

    def delete(self) -> None:
        """Delete this version. Its number does not return.

        Raises:
            Conflict: An image uses it.
        """
        self.workspace.client.call("DELETE", endpoint(*self._segments))

    @property
    def _segments(self) -> tuple[str, ...]:
        return ("api", "v1", "workspaces", self.workspace.name, "models", self.name, "versions", str(self.version))

    @classmethod
    def from_json(cls, workspace: Workspace, values: Mapping[str, Any]) -> "Model":
        """Build a model from what the API says of it."""
        return cls(
            workspace=workspace,
            name=values["name"],
            version=int(values["version"]),
            tags=dict(values.get("tags") or {}),
            properties=dict(values.get("properties") or {}),
            description=values.get("description") or "",
            created_time=parse_time(values.get("createdAt")),
            files=tuple(ModelFile(f["path"], f["digest"], int(f["size"])) for f in values.get("files", ())),
            size_bytes=int(values.get("sizeBytes") or 0),
        )

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "description": self.description,
            "tags": dict(self.tags),
            "properties": dict(self.properties),
            "createdAt": self.created_time.isoformat() if self.created_time else None,
            "sizeBytes": self.size_bytes,
            "files": [{"path": f.path, "digest": f.digest, "size": f.size} for f in self.files],
        }


def split_id(text: str) -> tuple[str, int]:
    """Split `name:version`.

    Raises:
        Invalid: The part behind the colon is no number.
    """
    name, _, version = text.rpartition(":")
    if not name or not version.isdecimal() or len(version) > 9:
        raise Invalid(f"{text!r} is not NAME:VERSION, as in digits:1")
    return name, int(version)


def check_pairs(label: str, pairs: Mapping[str, str] | None) -> None:
    """Refuse tags or properties that are not text by text."""
    for key, value in (pairs or {}).items():
        if not isinstance(key, str) or not isinstance(value, str) or not key:
            raise Invalid(f"{label}: {key!r}: {value!r} is not a pair of texts")


def safe_path(path: str) -> PurePosixPath:
    """Return *path* unless it leads out of the folder it is put in."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise Invalid(f"the server names the file {path!r}, which leads out of the folder")
    return pure


def local_files(path: Path) -> Iterator[LocalFile]:
    """Walk a file or folder in name order, with sizes and digests.

    A folder keeps its own name as the first part of each path. Links are followed
    as long as they stay in the folder (see `sanderling.sdk.walk`).

    Raises:
        NotFound: It is not there.
        Invalid: It, or something in it, is no file or cannot be read, or the folder holds no file.
    """
    for source, place in walk_files(path):
        yield local_file(source, place)


def local_file(source: Path, path: str) -> LocalFile:
    """Measure one file.

    Raises:
        NotFound: It is not there.
        Invalid: It cannot be read.
    """
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except FileNotFoundError:
        raise NotFound(f"{source} is not there") from None
    except OSError as error:
        raise hinted(
            Invalid(f"{source} cannot be read: {error.strerror}"), f"look at its rights: ls -l {source}"
        ) from error
    return LocalFile(source, path, size, f"sha256:{digest}")
