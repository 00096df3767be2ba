"""An upstream that does as a test tells it, and a registry before it that pulls through.

Both speak true HTTP: cuts, pauses and redirects are those of a socket.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import Engine
from tests.registry.world import make_engine

from sanderling.blobs import FileBlobs
from sanderling.oci import Descriptor, Digest, Manifest, canonical_json, media_types
from sanderling.registry import FixedUpstreams, Principal, Registry, Scope, Upstream

App = Callable[[Any, Any, Any], Awaitable[None]]

# As sanderling.server has it. With uvicorn's 5 s, a machine that stands still so long closes what is asked next.
KEEP_ALIVE_S = 30


class Everyone:
    """An authorizer that lets anybody pull, and the user `pusher` push."""

    def authenticate(self, user: str, password: str, client: str = "") -> Principal | None:
        return Principal(user, (Scope.of("*", "pull", "push", "delete", "list"),))

    def verify(self, token: str) -> Principal | None:
        return None

    def grant(self, principal: Principal, ttl_s: float) -> str:
        return "none"


@dataclass
class Source:
    """An upstream made of dictionaries. What it is asked for is counted; `answer` may be replaced for a digest."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    referrers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    status: int = 0  # answered to everything, when set
    headers: dict[str, str] = field(default_factory=dict)
    knows_ranges: bool = True
    cut_after: int | None = None  # bytes of a blob, once
    piece_bytes: int = 65536
    gate: asyncio.Event | None = None  # awaited before the second half of a blob
    address: str = ""

    def add_image(self, layers: list[bytes], tag: str = "1", repository: str = "library/app") -> Manifest:
        config = canonical_json(
            {
                "os": "linux",
                "architecture": "arm64",
                "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer) for layer in layers]},
            }
        )
        manifest = Manifest.build(
            self.add_blob(media_types.OCI_CONFIG, config),
            [self.add_blob(media_types.OCI_LAYER, layer) for layer in layers],
        )
        for reference in (tag, manifest.digest):
            self.manifests[f"{repository}:{reference}"] = (manifest.raw, manifest.media_type)
        return manifest

    def add_blob(self, media_type: str, content: bytes) -> Descriptor:
        digest = Digest.of(content)
        self.blobs[digest] = content
        return Descriptor(media_type, digest, len(content))

    def count(self, word: str) -> int:
        return sum(word in line for line in self.asked)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, method = scope["path"], scope["method"]
        self.asked.append(f"{method} {path}")
        if self.status:
            await answer(send, self.status, b"", **self.headers)
        elif "/manifests/" in path:
            repository, reference = path.removeprefix("/v2/").split("/manifests/")
            raw, media_type = self.manifests.get(f"{repository}:{reference}", (b"", ""))
            digest = {"Docker-Content-Digest": Digest.of(raw), "Content-Type": media_type}
            await answer(send, 200 if raw else 404, raw, head=method == "HEAD", **digest)
        elif "/referrers/" in path:
            document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": self.referrers}
            await answer(send, 200, canonical_json(document))
        else:
            await self._blob(scope, send, path.rpartition("/")[2])

    async def _blob(self, scope: Any, send: Any, digest: str) -> None:
        content = self.blobs.get(digest)
        if content is None:
            return await answer(send, 404, b"")
        asked = dict(scope["headers"]).get(b"range", b"").decode()
        self.ranges.append(asked)
        start = int(asked[6:-1]) if asked and self.knows_ranges else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        await begin(send, 206 if start else 200, len(content) - start, **headers)
        if scope["method"] == "HEAD":
            return await send({"type": "http.response.body"})
        for position in range(start, len(content), self.piece_bytes):
            if self.cut_after is not None and position >= self.cut_after:
                self.cut_after = None
                return None  # the HTTP server closes what is not complete
            if self.gate is not None and position >= len(content) // 2:
                await self.gate.wait()
            await send(body(content[position : position + self.piece_bytes], more=True))
        return await send({"type": "http.response.body"})


async def begin(send: Any, status: int, length: int, **headers: str) -> None:
    fields = {"Content-Length": str(length)} | headers
    lines = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def answer(send: Any, status: int, content: bytes, *, head: bool = False, **headers: str) -> None:
    await begin(send, status, len(content), **{k: v for k, v in headers.items() if v})
    await send(body(b"" if head else content))


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[str]:
    """Serve *app* on a free port in this loop; yield host:port. On leaving, its connections are cut."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none", timeout_keep_alive=KEEP_ALIVE_S
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    task = asyncio.create_task(server.main_loop())
    try:
        yield "127.0.0.1:" + str(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        await task
        await server.shutdown()


@dataclass
class Cache:
    """A registry that pulls through, and its client, who is signed in."""

    registry: Registry
    client: httpx.AsyncClient
    blobs: FileBlobs
    address: str

    async def pull(self, reference: str, repository: str = "hub/library/app") -> list[bytes]:
        """Pull as a client does: manifest, config, layers. Return the layers."""
        response = await self.client.get(f"/v2/{repository}/manifests/{reference}")
        assert response.status_code == 200, response.text
        manifest = Manifest.parse(response.content)
        contents = []
        for descriptor in (manifest.config, *manifest.layers):
            content = await self.blob(descriptor.digest, repository)
            assert Digest.of(content) == descriptor.digest
            contents.append(content)
        return contents[1:]

    async def blob(self, digest: Digest, repository: str = "hub/library/app") -> bytes:
        response = await self.client.get(f"/v2/{repository}/blobs/{digest}")
        assert response.status_code == 200, response.text
        return response.content


@asynccontextmanager
async def caching(
    folder: Path, *upstreams: Upstream, clock: Callable[[], float] | None = None, engine: Engine | None = None
) -> AsyncIterator[Cache]:
    """Serve a registry over *folder* that pulls through *upstreams*."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    own = engine or make_engine(folder / "sanderling.db")
    blobs = FileBlobs(folder / "blobs", *([] if clock is None else [clock]))
    options = {} if clock is None else {"clock": clock}
    registry = Registry(own, blobs, Everyone(), "localhost", upstreams=FixedUpstreams(upstreams), **options)
    try:
        async with serving(registry.app()) as address:
            limits = httpx.Limits(max_connections=100)
            async with httpx.AsyncClient(
                base_url=f"http://{address}", auth=("anyone", "x"), timeout=20, limits=limits, trust_env=False
            ) as client:
                yield Cache(registry, client, blobs, address)
            await registry.close()
    finally:
        own.dispose()
