"""What an image is to be made of: the input of a build, as JSON between server and worker.

    {"image": "demo/digits:1", "script": {"path": "score.py", "source": FILE},
     "files": [{"path": P, "source": FILE, "mode": 493}], "environment": {"path": NAME, "source": FILE} or null,
     "models": [{"name": N, "version": V, "files": {PATH: FILE}}],
     "platforms": ["linux/amd64"], "tags": {}, "description": "", "compression": "gzip",
     "schema": {"path": P, "source": FILE} or null, "base": REFERENCE or null,
     "requirements": {"path": NAME, "source": FILE} or null, "wheels": [{"path": P, "source": FILE}],
     "sampleInput": {"path": NAME, "source": FILE} or null, "gate": true,
     "dockerfile": {"path": NAME, "source": FILE} or null, "context": [{"path": P, "source": FILE, "mode": 420}]}

FILE is a path on this machine. Where sources come from is the caller's matter. REFERENCE names the image that this
one stands on, as `docker pull` takes it; null is Debian.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.errors import Invalid
from sanderling.image.bases.reference import parse_base
from sanderling.image.layers.codec import Compression, parse_compression
from sanderling.image.layers.tree import safe_path
from sanderling.image.packages.resolve import PLATFORMS
from sanderling.oci import Platform

APP_ROOT = "var/azureml-app"
MODELS_FOLDER = "azureml-models"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of this machine that goes into the image at *path* (relative to its folder there)."""

    path: str
    source: Path
    executable: bool = False


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A registered model: its files by path below ``azureml-models/NAME/VERSION``."""

    name: str
    version: int
    files: Mapping[str, Path]

    @property
    def folder(self) -> str:
        """Where the model is, relative to the application's folder."""
        return f"{MODELS_FOLDER}/{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole input of a build. *image* is "workspace/name:version"."""

    image: str
    script: SourceFile
    environment: SourceFile | None = None  # its path is only what messages call it
    files: tuple[SourceFile, ...] = ()
    models: tuple[ModelFiles, ...] = ()
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    schema: SourceFile | None = None  # azureml's schema_file: it is put beside the script
    base: str | None = None
    requirements: SourceFile | None = None  # a pip requirements file, in place of the environment
    wheels: tuple[SourceFile, ...] = ()  # what these files name by path: local wheels, and texts for -r and -c
    compression: Compression = "gzip"
    sample_input: SourceFile | None = None  # what run() is tried with; its path is what messages call it
    gate: bool = True  # whether the image is tried before it is published
    dockerfile: SourceFile | None = None  # steps upon the finished image; its path is what messages call it
    context: tuple[SourceFile, ...] = ()  # what these steps may copy, with paths relative to the Dockerfile's folder

    def __post_init__(self) -> None:
        """Refuse what can never be built."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._/-]{0,250}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", self.image):
            raise Invalid(f"the image name {self.image!r} is not of the form workspace/name:version")
        if self.base is not None:
            parse_base(self.base)
        if self.environment is not None and self.requirements is not None:
            raise Invalid("an environment file and a requirements file are both given; give one of them")
        seen: set[str] = set()
        for file in self.application_files():
            path = safe_path(file.path, "the image's files")
            if path in seen or path.split("/")[0] == MODELS_FOLDER:
                raise Invalid(f"/{APP_ROOT}/{path} is there twice; give one of the two files another path")
            seen.add(path)
        for model in self.models:
            if not _NAME.match(model.name) or model.version < 1 or not model.files:
                raise Invalid(f"the model {model.name!r} needs a name, a version from 1 and at least one file")
            for path in model.files:
                safe_path(path, f"model '{model.name}'")
        folders = [model.folder for model in self.models]
        if len(set(folders)) != len(folders):
            raise Invalid("one version of a model is listed twice; list it once")
        for platform in self.platforms:
            if str(platform) not in PLATFORMS:
                raise Invalid(f"images for {platform} cannot be built; possible are {', '.join(PLATFORMS)}")
        if not self.platforms or len(set(map(str, self.platforms))) != len(self.platforms):
            raise Invalid("an image needs at least one platform, each listed once")

    def application_files(self) -> tuple[SourceFile, ...]:
        """Script, further files and schema; the schema may be one of the files."""
        extra = () if self.schema is None or self.schema in self.files else (self.schema,)
        return (self.script, *self.files, *extra)

    def named_by_path(self) -> dict[str, Path]:
        """The files that an environment or requirements file may name by path."""
        return {file.path: file.source for file in (*self.files, *self.wheels)}

    def variables(self) -> dict[str, str]:
        """The environment of the image's process (contract between image and scoring server)."""
        models = f"/{APP_ROOT}/{self.models[0].folder}" if len(self.models) == 1 else f"/{APP_ROOT}/{MODELS_FOLDER}"
        return {
            "AML_APP_ROOT": f"/{APP_ROOT}",
            "AZUREML_ENTRY_SCRIPT": self.script.path,
            "AZUREML_MODEL_DIR": models,
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def to_json(self) -> dict[str, Any]:
        """The document at the top of this module."""

        def file(item: SourceFile) -> dict[str, Any]:
            return {"path": item.path, "source": str(item.source), "mode": 0o755 if item.executable else 0o644}

        return {
            "image": self.image,
            "script": file(self.script),
            "files": [file(item) for item in self.files],
            "environment": file(self.environment) if self.environment else None,
            "models": [
                {"name": m.name, "version": m.version, "files": {path: str(source) for path, source in m.files.items()}}
                for m in self.models
            ],
            "platforms": [str(platform) for platform in self.platforms],
            "tags": dict(self.tags),
            "description": self.description,
            "schema": file(self.schema) if self.schema else None,
            "base": self.base,
            "requirements": file(self.requirements) if self.requirements else None,
            "wheels": [file(item) for item in self.wheels],
            "compression": self.compression,
            "sampleInput": file(self.sample_input) if self.sample_input else None,
            "gate": self.gate,
            "dockerfile": file(self.dockerfile) if self.dockerfile else None,
            "context": [file(item) for item in self.context],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Recipe":
        """Read the document at the top of this module. Raises Invalid."""

        def file(item: Mapping[str, Any]) -> SourceFile:
            return SourceFile(str(item["path"]), Path(item["source"]), bool(int(item.get("mode") or 0) & 0o100))

        try:
            return cls(
                image=str(data["image"]),
                script=file(data["script"]),
                environment=file(data["environment"]) if data.get("environment") else None,
                files=tuple(file(item) for item in data.get("files") or ()),
                models=tuple(
                    ModelFiles(str(m["name"]), int(m["version"]), {p: Path(s) for p, s in m["files"].items()})
                    for m in data.get("models") or ()
                ),
                platforms=tuple(Platform.parse(text) for text in data.get("platforms") or ("linux/amd64",)),
                tags={str(key): str(value) for key, value in (data.get("tags") or {}).items()},
                description=str(data.get("description") or ""),
                schema=file(data["schema"]) if data.get("schema") else None,
                base=str(data["base"]) if data.get("base") else None,
                requirements=file(data["requirements"]) if data.get("requirements") else None,
                wheels=tuple(file(item) for item in data.get("wheels") or ()),
                compression=parse_compression(str(data.get("compression") or "gzip")),
                sample_input=file(data["sampleInput"]) if data.get("sampleInput") else None,
                gate=data.get("gate") is not False,
                dockerfile=file(data["dockerfile"]) if data.get("dockerfile") else None,
                context=tuple(file(item) for item in data.get("context") or ()),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise Invalid(f"the build's description cannot be read: {type(e).__name__}: {e}") from e
