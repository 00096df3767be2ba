"""`sanderling image build` without a server: what `--output` and `--push` ask for."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sanderling.cli.build_log import BuildLog
from sanderling.cli.extras import needs_extra
from sanderling.cli.image_copy import read_creds_file
from sanderling.cli.output import Output, size_text
from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.sdk.dockerfile_inputs import files_copied_by
from sanderling.sdk.hints import hinted
from sanderling.sdk.image import LogEvent
from sanderling.sdk.image_inputs import files_named_in
from sanderling.sdk.settings import cache_dir
from sanderling.sdk.walk import files_beside, schema_place, walk_files

if TYPE_CHECKING:
    from sanderling.image import BuildSettings, Event, ModelFiles, Recipe, SourceFile
    from sanderling.image.local.build_here import BuiltHere, Connect
    from sanderling.oci import Reference
    from sanderling.signatures.keys import SigningKey
    from sanderling.transfer import RegistryClient

MAKE_KEY = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {path}"
COLUMNS = ("IMAGE", "#SIZE", "LAYERS", "#SECONDS")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What goes into the image, as the options of the command say it; None and empty: not given."""

    script: Path
    name: str | None = None
    environment: Path | None = None
    requirements: Path | None = None
    base: str | None = None
    models: Sequence[str] = ()
    files: Sequence[Path] = ()
    schema: Path | None = None
    platforms: Sequence[str] = ()
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    compression: str | None = None
    sample_input: Path | None = None
    gate: bool = True
    dockerfile: Path | None = None


@dataclass(frozen=True, slots=True)
class Here:
    """The options of a build on this machine."""

    outputs: Sequence[str] = ()
    pushes: Sequence[str] = ()
    cache: Path | None = None
    creds_file: str | None = None
    is_plain_http: bool = False
    offline: Path | None = None
    wheelhouse: Path | None = None
    base_lock: Path | None = None
    no_network: bool = False
    sign_key: Path | None = None
    attachments: bool | None = None
    lock: Path | None = None

    def __post_init__(self) -> None:
        if self.sign_key is not None and self.attachments is False:
            raise Invalid("--sign-key puts a signature beside the image; leave --no-attachments out")
        if self.lock is not None and (self.base_lock or self.offline):
            raise Invalid("--lock names base and wheels; leave --base-lock and --offline out")
        if self.offline is not None and (self.wheelhouse or self.base_lock):
            raise Invalid("--offline brings wheels and base lock; leave --wheelhouse and --base-lock out")

    @property
    def is_wanted(self) -> bool:
        """Whether the image is built here, and not by the server."""
        return bool(self.outputs or self.pushes)

    def refuse(self) -> None:
        """Refuse, for a build by the server, what only a build here can do."""
        given = {
            "--cache": self.cache,
            "--push-creds-file": self.creds_file,
            "--push-plain-http": self.is_plain_http,
            "--offline": self.offline,
            "--wheelhouse": self.wheelhouse,
            "--base-lock": self.base_lock,
            "--no-network": self.no_network,
            "--lock": self.lock,
            "--sign-key": self.sign_key,
            "--attachments": self.attachments is not None,
        }
        for option, value in given.items():
            if value:
                raise hinted(
                    Invalid(
                        f"{option} is for builds on this machine, and without --output or --push the server builds"
                    ),
                    "the same with --output oci:DIR",
                )


def build_here(out: Output, inputs: Inputs, here: Here) -> None:
    """Build the image on this machine, bring it to its places, and say what came of it."""
    began = monotonic()
    with needs_extra("server"):
        from sanderling.image import Log
        from sanderling.image.local.build_here import Beside, offline_settings
        from sanderling.image.local.build_here import build_here as build
        from sanderling.image.local.destinations import (
            check_places,
            check_platforms,
            default_name,
            parse_output,
            parse_push,
        )

    pushes = [parse_push(text) for text in here.pushes]
    name = inputs.name or default_name(inputs.script.stem, pushes)
    name = name if ":" in name else f"{name}:latest"
    settings = settings_of(here)
    if settings.lock is not None and not inputs.platforms:
        inputs = replace(inputs, platforms=tuple(settings.lock.platforms))
    recipe = recipe_of(inputs, name)
    destinations = [*(parse_output(text, name) for text in here.outputs), *pushes]
    check_platforms(destinations, recipe.platforms)
    check_places(destinations)
    beside = Beside(here.attachments, _signing_key(here.sign_key))
    out.step(f"Building image {name} for {', '.join(map(str, recipe.platforms))}, here")
    with BuildLog(out) as shown:
        log = Log(lambda event: shown(_event(event)))
        if here.offline is not None:
            settings = offline_settings(settings, here.offline, recipe, log)
        with _hints():
            built = build(recipe, settings, destinations, _connect(here), log, beside)
        row = shown.layers_text
    _show(out, built, row, monotonic() - began)


def prefetch_here(out: Output, inputs: Inputs, here: Here, folder: Path) -> None:
    """Fill *folder* with all that a build of these inputs fetches, and say what is in it."""
    with needs_extra("server"):
        from sanderling.image import Log
        from sanderling.image.local.prefetch import prefetch

    recipe = recipe_of(inputs, "prefetch:latest")
    out.step(f"Fetching for {', '.join(map(str, recipe.platforms))} into {folder}")
    with BuildLog(out) as shown:
        done = prefetch(recipe, settings_of(here), folder, Log(lambda event: shown(_event(event))))
    out.line()
    out.line(f"    build without a network: sanderling image build --offline {folder} ... --output oci:DIR")
    out.result(
        {
            "folder": str(folder),
            "platforms": list(done.platforms),
            "python": done.python,
            "files": [file.to_json() for file in done.files],
            "sizeBytes": done.size_bytes,
        }
    )


def settings_of(here: Here) -> "BuildSettings":
    """Where packages come from and are kept."""
    from sanderling.image import BuildSettings
    from sanderling.image.packages.wheel_sources import WheelSources
    from sanderling.image.rebuild import read_lock

    return BuildSettings(
        here.cache or cache_dir() / "build",
        wheels=WheelSources(here.wheelhouse, here.no_network),
        base_lock=here.base_lock,
        is_offline=here.no_network,
        connect=_connect_to_base,
        lock=None if here.lock is None else read_lock(here.lock),
    )


def recipe_of(inputs: Inputs, name: str) -> "Recipe":
    """The recipe for the files that the user named, as they are on this machine."""
    from sanderling.image import Recipe, SourceFile
    from sanderling.image.layers.codec import parse_compression
    from sanderling.oci import Platform

    script = inputs.script.absolute()
    if script.suffix != ".py":
        raise hinted(Invalid(f"{inputs.script} is not a Python file"), "name the scoring script: --script score.py")
    files = [_source(*found) for item in inputs.files for found in files_beside(item, script.parent)]
    platforms = inputs.platforms or [f"linux/{platform.machine()}"]
    return Recipe(
        image=name,
        script=SourceFile(script.name, script),
        environment=_named(inputs.environment),
        requirements=_named(inputs.requirements),
        wheels=_named_inside(inputs.environment or inputs.requirements),
        base=inputs.base,
        dockerfile=_named(inputs.dockerfile),
        context=_copied_by(inputs.dockerfile),
        files=tuple(files),
        models=tuple(_model(text) for text in inputs.models),
        platforms=tuple(Platform.parse(text) for text in platforms),
        tags=inputs.tags,
        description=inputs.description,
        compression=parse_compression(inputs.compression or "gzip"),
        sample_input=_named(inputs.sample_input),
        gate=inputs.gate,
        schema=None if inputs.schema is None else _source(inputs.schema, schema_place(inputs.schema, script.parent)),
    )


def _signing_key(path: Path | None) -> "SigningKey | None":
    """The private key in the file *path*. Raises NotFound, Invalid; nothing of the key is in the message."""
    from sanderling.signatures.keys import MAX_KEY_BYTES, SigningKey

    if path is None:
        return None
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise NotFound(f"the key {path} cannot be read: {error.strerror}") from error
    try:
        return SigningKey.from_pem(pem)
    except Invalid as error:
        raise hinted(error, MAKE_KEY.format(path=path)) from None


def _source(source: Path, place: str) -> "SourceFile":
    from sanderling.image import SourceFile

    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise NotFound(f"{source} cannot be read: {error.strerror}") from error
    return SourceFile(place, source.absolute(), bool(mode & 0o100))


def _named(path: Path | None) -> "SourceFile | None":
    """A file that is read, and is not in the image; its path is what messages call it."""
    from sanderling.image import SourceFile

    return None if path is None else SourceFile(str(path), path.absolute())


def _named_inside(path: Path | None) -> "tuple[SourceFile, ...]":
    """The wheels and texts that an environment or requirements file names by path."""
    from sanderling.image import SourceFile

    if path is None or not path.is_file():  # that it is not there is said by the build
        return ()
    return tuple(SourceFile(file.path, file.source) for file in files_named_in(path))


def _copied_by(dockerfile: Path | None) -> "tuple[SourceFile, ...]":
    """The files that the steps of a Dockerfile copy."""
    return () if dockerfile is None else tuple(_source(f.source, f.path) for f in files_copied_by(dockerfile))


def _model(text: str) -> "ModelFiles":
    """Read PATH, NAME=PATH or NAME:VERSION=PATH; a model without a name is called as its file, version 1."""
    from sanderling.image import ModelFiles

    label, sign, rest = text.partition("=")
    if not sign or Path(text).exists():
        label, rest = "", text
    name, _, number = label.partition(":")
    if number and (not number.isascii() or not number.isdecimal() or len(number) > 9):
        raise hinted(Invalid(f"--model {text!r}: {number!r} is no version"), f"--model {name}:1={rest}")
    path = Path(rest)
    try:
        files = {place: source for source, place in walk_files(path)}
    except SanderlingError as error:
        if not sign and not path.exists():
            hinted(error, "--model NAME=PATH", f"a model of the workspace: sanderling model download {text}")
        raise
    return ModelFiles(name or path.absolute().name, int(number or 1), files)


@contextmanager
def _hints() -> Iterator[None]:
    """Say what to try with a registry."""
    try:
        yield
    except SanderlingError as error:
        if hasattr(error, "registry"):
            from sanderling.sdk.copy_run import add_hints

            add_hints(error, "--push-creds-file")
        raise


def _connect(here: Here) -> "Connect":
    from sanderling.sdk.image_copy import Side
    from sanderling.sdk.registry_access import RegistryAccess

    account = read_creds_file(here.creds_file)
    return RegistryAccess(Side(account, True if here.is_plain_http else None), None).client


def _connect_to_base(reference: "Reference") -> "RegistryClient":
    """The client for a base's registry, as the user whom Docker and Podman know there."""
    from sanderling.sdk.image_copy import Side
    from sanderling.sdk.registry_access import RegistryAccess, address_of

    return RegistryAccess(Side(), None).client(address_of(reference))


def _event(event: "Event") -> LogEvent:
    return LogEvent(event.n, None, event.step, event.text, event.level, event.bytes, event.total_bytes)


def _show(out: Output, built: "BuiltHere", layers: str, seconds: float) -> None:
    document: dict[str, Any] = built.to_json() | {"seconds": round(seconds, 3)}
    out.line()
    out.table(COLUMNS, [(document["image"], size_text(document["sizeBytes"]), layers, f"{seconds:.1f}")])
    out.line()
    for one in document["outputs"]:
        out.line(f"{one['reference']}  {one['digest']}")
    out.result(document)
