"""Build again from an image's lock: the base and the wheels that it names, and no others.

The recipe still says script, files and models; its environment, when there is one, must agree with the lock.
Debian bases and wheels are rebuilt; a base that is an image must be the one that the lock names; conda is refused.
"""

from collections.abc import Iterable
from dataclasses import asdict, replace
from hashlib import file_digest
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.image.bases import Base
from sanderling.image.debian.lock import BaseLock
from sanderling.image.debian.versions import ARCHITECTURES
from sanderling.image.environment.environment import Environment
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.lock import Wheel
from sanderling.image.packages.tags import rank
from sanderling.image.packages.wheel_sources import WheelSources
from sanderling.image.recipe import Recipe
from sanderling.image.supply_chain.contents import Contents
from sanderling.image.supply_chain.lock import MAX_BYTES, Lock, LockInvalid
from sanderling.image.supply_chain.used import base_name
from sanderling.oci import Digest, Platform

UNKNOWN_TIME = "1970-01-01T00:00:00+00:00"  # a lock does not say when it was made


class LockDiffers(Invalid):
    """The lock and what is to be built do not go together."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the lock does not fit: {reason}")


def read_lock(path: Path) -> Lock:
    """Read the lock in the file *path*. Raises LockInvalid."""
    try:
        with path.open("rb") as file:
            return Lock.parse(file.read(MAX_BYTES + 1))
    except OSError as e:
        raise LockInvalid(f"the lock {path} cannot be read: {e.strerror}") from e


class Rebuild:
    """What *lock* says for *recipe*, whose file for packages says *environment*. Raises LockDiffers.

    Wheels that were local files are looked for in *environment*, in the wheelhouse of *sources*, and in *blobs*.
    """

    def __init__(
        self, lock: Lock, recipe: Recipe, environment: Environment, sources: WheelSources, blobs: FileBlobs
    ) -> None:
        self._environment, self._wheelhouse, self._blobs = environment, sources.wheelhouse, blobs
        self._contents: dict[Platform, Contents] = {}
        for platform in recipe.platforms:
            found = lock.platforms.get(str(platform))
            if found is None:
                listed = ", ".join(lock.platforms) or "none"
                raise LockDiffers(f"{platform} is wanted, and it is of an image for {listed}")
            self._check(found, recipe)
            self._contents[platform] = found

    @property
    def base_locks(self) -> dict[str, BaseLock] | None:
        """The Debian packages by architecture; None for a base that is an image. Raises LockInvalid."""
        found: dict[str, BaseLock] = {}
        for platform, contents in self._contents.items():
            if contents.base is not None:
                return None
            architecture = ARCHITECTURES[str(platform)]
            packages = [asdict(package) for package in contents.debian]
            document = {"architecture": architecture, "made_at": UNKNOWN_TIME, "dates": {}, "packages": packages}
            found[architecture] = BaseLock.from_json(document | {"release": contents.suite}, "the lock")
        return found

    def check_base(self, platform: Platform, base: Base) -> None:
        """Refuse an image as the base that is another than the lock's. Raises LockDiffers."""
        locked = self._contents[platform].base
        if locked is not None and locked != base_name(base):
            raise LockDiffers(f"the base is {base_name(base)} now, and it is of one upon {locked}; name that by digest")

    def wheels(self, platform: Platform, python: Interpreter) -> list[Wheel]:
        """The wheels of the lock for *platform*, sorted by name. Raises LockDiffers."""
        contents = self._contents[platform]
        if contents.python.version != python.version:
            raise LockDiffers(f"its wheels are for Python {contents.python.version}, and the base has {python.version}")
        self._check_requirements(contents.wheels)
        for wheel in contents.wheels:
            if rank(wheel.file_name, platform, python) is None:
                raise LockDiffers(f"{wheel.file_name} does not run on {platform} with Python {python.version}")
        return sorted((self._placed(wheel) for wheel in contents.wheels), key=lambda wheel: wheel.name)

    def _check(self, contents: Contents, recipe: Recipe) -> None:
        if contents.conda or self._environment.conda is not None:
            whose = "it has" if contents.conda else "the environment wants"
            raise LockDiffers(f"{whose} conda packages, and only Debian's and wheels are built from a lock")
        if contents.base is not None and recipe.base is None:
            raise LockDiffers(f"it is of an image upon {contents.base}; give that with --base")
        if contents.base is None and recipe.base is not None:
            raise LockDiffers(f"it is of an image upon Debian, and the base is {recipe.base}; leave --base out")

    def _check_requirements(self, wheels: Iterable[Wheel]) -> None:
        """Refuse an environment that wants what the lock has not: the image would not be what the file says."""
        versions = {canonicalize_name(wheel.name): wheel.version for wheel in wheels}
        for text in self._environment.requirements:
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue  # uv's own forms: what they lead to is in the lock
            version = versions.get(canonicalize_name(wanted.name))
            if version is None and wanted.marker is None:
                raise LockDiffers(f"the environment wants '{wanted.name}', which it has not; build without it")
            if version is not None and not wanted.specifier.contains(version, prereleases=True):
                raise LockDiffers(f"it has {wanted.name} {version}, and the environment wants {text}")

    def _placed(self, wheel: Wheel) -> Wheel:
        """*wheel* with the place of its file, where that is on this machine."""
        if self._blobs.find(Digest.parse(f"sha256:{wheel.sha256}")) is not None:
            return wheel
        named = [one.source for one in self._environment.wheels if one.file_name == wheel.file_name]
        if self._wheelhouse is not None:
            named.append(self._wheelhouse / wheel.file_name)
        for source in named:
            if source.is_file() and _sha256(source) == wheel.sha256:
                return replace(wheel, source=source)
        if "//" not in wheel.url:
            raise LockDiffers(
                f"{wheel.file_name} was a local file, and none with sha256 {wheel.sha256} is here; "
                "put it into a folder, and name that with --wheelhouse"
            )
        return wheel


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise Invalid(f"the wheel {path.name} cannot be read: {e.strerror}") from e
