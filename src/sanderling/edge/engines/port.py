"""The port to what runs modules: bubblewrap here, or a Docker daemon.

An engine knows containers by the module's name. It never fetches: images come
from our own content store, whole and verified. The level-triggered loop asks
`containers()` each turn, so an engine keeps no plan of its own and restarts nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from sanderling.oci import Digest, ImageConfig, Manifest


class State(StrEnum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image that is whole on this device: every blob is at `path(digest)`, verified."""

    reference: str
    manifest: Manifest
    config: ImageConfig
    path: Callable[[Digest], Path] = field(compare=False)

    @property
    def digest(self) -> Digest:
        """The digest of this platform's manifest."""
        return self.manifest.digest


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to create. `environment` is the module's and ours, over the image's and createOptions'.

    `fingerprint` stands for all that needs a new container when it changes;
    `workload_folder` holds the module's `workload.sock`.
    """

    name: str
    image: HeldImage
    environment: Mapping[str, str] = field(repr=False)
    create_options: Mapping[str, Any] = field(repr=False)
    fingerprint: str
    workload_folder: Path


@dataclass(frozen=True, slots=True)
class Container:
    """What is there. Times are seconds since the epoch; `exit_code` is set when it exited."""

    name: str
    state: State
    fingerprint: str
    image: str
    image_digest: str
    exit_code: int | None = None
    started_at: float | None = None
    exited_at: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether its process is there."""
        return self.state is State.RUNNING


class ContainerEngine(Protocol):
    """Runs modules. All methods raise `Unavailable` when the engine does not answer."""

    @property
    def name(self) -> str:
        """`bubblewrap` or `docker`."""
        ...

    async def load(self, image: HeldImage) -> None:
        """Make *image* ready to be created from; idempotent. Raises `Invalid` for a broken image."""
        ...

    async def has(self, image: HeldImage) -> bool:
        """Say whether *image* is ready to be created from: cheap, every turn asks."""
        ...

    async def containers(self) -> dict[str, Container]:
        """Return what is there, by the module's name."""
        ...

    async def create(self, spec: ContainerSpec) -> None:
        """Create, without starting. Raises `Invalid` for options that cannot be honoured."""
        ...

    async def start(self, name: str) -> None:
        """Start what was created or has exited; a running one stays as it is."""
        ...

    async def stop(self, name: str, timeout_s: float = 10.0) -> None:
        """Ask to stop, then kill after *timeout_s*; one that is not there or not running is fine."""
        ...

    async def remove(self, name: str) -> None:
        """Stop and forget; one that is not there is fine."""
        ...

    async def logs(self, name: str, tail_bytes: int = 65536) -> bytes:
        """Return the end of what it wrote; raise `NotFound`."""
        ...

    async def discard(self, keep: set[Digest]) -> None:
        """Free what was loaded for images whose config digests are not in *keep*."""
        ...

    async def close(self) -> None:
        """Let go; an engine whose modules cannot outlive us stops them."""
        ...
