"""Which base a recipe wants, and who makes it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound
from sanderling.image.bases.base import BaseMaker
from sanderling.image.bases.debian_base import DebianBase
from sanderling.image.debian.archive import DebianArchive
from sanderling.image.debian.lock import MAX_FILE_BYTES, BaseLock, read_locks
from sanderling.image.debian.mirrors import choose_mirrors
from sanderling.image.debian.versions import VERSIONS, DebianVersion
from sanderling.image.downloads import Downloads
from sanderling.image.events import Log
from sanderling.image.interpreter import Interpreter
from sanderling.image.push_target import PushTarget
from sanderling.oci import Platform, Reference

if TYPE_CHECKING:
    from sanderling.transfer import RegistryClient

Choose = Callable[[Sequence[Interpreter]], Interpreter]


@dataclass(frozen=True, slots=True)
class BaseSources:
    """Where bases come from on this machine.

    debian_mirror, debian_security_mirror: None takes the host's own sources.
    base_lock: a file with the Debian packages to take, as `write_locks` writes it; base_locks: the same, read.
    registries: those that we have credentials or certificates for.
    connect: gives the client for an image's reference, where it is given.
    is_offline: nothing is fetched: what is not in the cache raises NotOnThisMachine.
    """

    cache: Path
    debian_mirror: str | None = None
    debian_security_mirror: str | None = None
    base_lock: Path | None = None
    base_locks: Mapping[str, BaseLock] | None = None
    registries: tuple[PushTarget, ...] = ()
    connect: Callable[[Reference], "RegistryClient"] | None = None
    is_offline: bool = False


def choose_base(
    wanted: str | None,
    platforms: Sequence[Platform],
    choose: Choose,
    sources: BaseSources,
    downloads: Downloads,
    log: Log,
) -> BaseMaker:
    """The maker of the base *wanted*: an image's reference, or None for Debian.

    *choose* takes the first fitting one of the Pythons that are possible. An
    image is fetched here, for only then is its Python known.
    """
    if wanted is None:
        return DebianBase(debian_archive(choose, sources, downloads, log), log)
    if sources.base_lock is not None:
        raise Invalid("a base lock names Debian packages, and the base is another image; give one of the two")
    # The HTTP client of registries is a quarter second of imports that other builds do not need.
    from sanderling.image.bases.fetch import BaseImages
    from sanderling.image.bases.oci_base import OciBase

    blobs = FileBlobs(sources.cache / "layers")
    images = BaseImages(
        sources.cache, blobs, log, sources.registries, connect=sources.connect, is_offline=sources.is_offline
    )
    return OciBase.open(wanted, platforms, images, sources.cache, blobs, choose, log)


def debian_archive(choose: Choose, sources: BaseSources, downloads: Downloads, log: Log) -> DebianArchive:
    """The archive of the version of Debian whose Python *choose* takes, or that the base lock is of."""
    locks = read_lock_file(sources.base_lock) if sources.base_lock is not None else sources.base_locks
    possible: Iterable[DebianVersion] = VERSIONS if locks is None else [next(iter(locks.values())).debian]
    by_python = {version.python: version for version in possible}
    version = by_python[choose(list(by_python))]
    mirrors = choose_mirrors(sources.debian_mirror, sources.debian_security_mirror)
    return DebianArchive(sources.cache, downloads, mirrors, log, version=version, given=locks)


def read_lock_file(path: Path) -> dict[str, BaseLock]:
    """The locks by architecture in the file *path*. Raises NotFound, LockInvalid."""
    try:
        with path.open("rb") as file:
            return read_locks(file.read(MAX_FILE_BYTES + 1), path.name)
    except FileNotFoundError as e:
        raise NotFound(f"the base lock {path.name} is not there") from e
    except OSError as e:
        raise Invalid(f"the base lock {path.name} cannot be read: {e.strerror}") from e
