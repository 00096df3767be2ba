"""Bring files from an index or a mirror into the cache, verified.

- A file is kept by its sha256 and is there only when all its bytes are right.
- A connection that breaks is taken up where it broke; a wrong file is fetched once more, then refused.
- Credentials stay in this process: they go as a header to their own host, and into no message.
"""

import base64
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from sanderling.blobs import BlobWriter, FileBlobs
from sanderling.errors import Denied, Invalid, NotFound, Unavailable
from sanderling.image.events import Log, Progress, without_credentials
from sanderling.image.packages.wheel_sources import NotOnThisMachine
from sanderling.oci import Digest, DigestMismatch

ATTEMPTS = 6
TIMEOUT = httpx.Timeout(30, connect=15)
CHUNK_BYTES = 1 << 18
MAX_FILE_BYTES = 16 << 30


class DownloadFailed(Unavailable):
    """*url* (without credentials) could not be fetched now."""

    def __init__(self, name: str, url: str, reason: str, way_out: str = "build again when it can be reached") -> None:
        self.name, self.url = name, without_credentials(url)
        super().__init__(f"{name} could not be fetched from {self.url}: {reason}; {way_out}")


class WrongContent(Invalid):
    """What came from *url* is not what its index promised, twice."""

    def __init__(self, name: str, url: str, mismatch: DigestMismatch) -> None:
        self.name, self.url = name, without_credentials(url)
        super().__init__(f"{name} from {self.url}: {mismatch.message}; is something rewriting downloads on the way?")


class _TryAgain(Exception):
    """The server answered that it cannot answer now."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to fetch: *digest* is what it must be, *size_bytes* None when the index does not say."""

    name: str
    url: str
    digest: Digest | None
    size_bytes: int | None = None


class Downloads:
    """Fetches into *blobs*. *logins* maps a host (``name:port`` as in URLs) to user and password.

    When it *is_offline*, what is not in *blobs* raises NotOnThisMachine.
    """

    def __init__(
        self,
        blobs: FileBlobs,
        log: Log,
        logins: Mapping[str, tuple[str, str]] | None = None,
        attempts: int = ATTEMPTS,
        first_pause_s: float = 0.5,
        is_offline: bool = False,
    ) -> None:
        self.blobs = blobs
        self._log = log
        self._logins = dict(logins or {})
        self._attempts, self._first_pause_s = attempts, first_pause_s
        self._is_offline = is_offline
        self._stop = threading.Event()

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True, limits=httpx.Limits(max_connections=8))

    def close(self) -> None:
        """Close the connections; fetches that still run give up."""
        self._stop.set()
        if "_client" in self.__dict__:
            self._client.close()

    def ensure_all(self, sources: Iterable[Source], step: str, what: str, at_once: int = 6) -> dict[str, Digest]:
        """Have all *sources* in the cache; return the digest of each by its name.

        The first failure stops the rest. Raises DownloadFailed, WrongContent,
        NotFound or Denied.
        """
        wanted = list(sources)
        digests = {s.name: s.digest for s in wanted if s.digest is not None and self.blobs.find(s.digest) is not None}
        missing = [source for source in wanted if source.name not in digests]
        if not missing:
            return digests
        progress = Progress(self._log, step, what, sum(source.size_bytes or 0 for source in missing))
        with ThreadPoolExecutor(at_once) as pool:
            futures = [pool.submit(self._ensure, source, progress) for source in missing]
            try:
                for source, future in zip(missing, futures, strict=True):
                    digests[source.name] = future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                self._stop.clear()
                raise
        progress.finish()
        return digests

    def read(self, url: str, *, name: str, limit: int) -> bytes:
        """The bytes of a small file that carries its own proof, such as a signed index."""
        for attempt in range(self._attempts):
            body = b""
            try:
                with self._open(name, url, 0) as response:
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        body += chunk
                        if len(body) > limit:
                            raise Invalid(f"{name} at {without_credentials(url)} is larger than {limit} bytes")
                return body
            except (httpx.TransportError, _TryAgain) as e:
                self._pause(attempt, name, url, e)
        raise AssertionError("_pause raises at the last attempt")

    def _ensure(self, source: Source, progress: Progress) -> Digest:
        take = self._copy if source.url.startswith("file:") else self._fetch
        try:
            return take(source, progress)
        except DigestMismatch as e:
            self._log.warn("download", f"{source.name}: {e.message}; fetching it once more")
        try:
            return take(source, progress)
        except DigestMismatch as e:
            raise WrongContent(source.name, source.url, e) from e

    def _copy(self, source: Source, progress: Progress) -> Digest:
        path = Path(url2pathname(urlsplit(source.url).path))
        try:
            with path.open("rb") as file, self.blobs.writer() as writer:
                while chunk := file.read(CHUNK_BYTES):
                    writer.write(chunk)
                    progress.add(len(chunk))
                return writer.commit(source.digest)
        except OSError as e:
            raise NotFound(f"{source.name}: {path} cannot be read: {e.strerror}") from e

    def _fetch(self, source: Source, progress: Progress) -> Digest:
        writer = self.blobs.writer()
        with writer:
            for attempt in range(self._attempts):
                try:
                    self._append(source, writer, progress)
                    return writer.commit(source.digest)
                except (httpx.TransportError, _TryAgain) as e:
                    self._pause(attempt, source.name, source.url, e)
        raise AssertionError("_pause raises at the last attempt")

    def _append(self, source: Source, writer: BlobWriter, progress: Progress) -> None:
        """Write what *writer* does not have yet."""
        limit = source.size_bytes or MAX_FILE_BYTES
        start = writer.size
        if source.size_bytes is not None and start >= source.size_bytes:
            return
        with self._open(source.name, source.url, start) as response:
            self._check_length(source, response)
            # A server that knows no ranges sends all of it again: what we have is skipped.
            skip = start if response.status_code != httpx.codes.PARTIAL_CONTENT else 0
            for chunk in response.iter_raw(CHUNK_BYTES):
                if self._stop.is_set():
                    raise DownloadFailed(source.name, source.url, "another download failed")
                piece = chunk[skip:]
                skip -= len(chunk) - len(piece)
                if writer.size + len(piece) > limit:
                    raise Invalid(f"{source.name} is larger than the {limit} bytes its index promised")
                writer.write(piece)
                progress.add(len(piece))
        if source.size_bytes is not None and writer.size < source.size_bytes:
            raise _TryAgain(f"it ended after {writer.size} of {source.size_bytes} bytes")

    def _check_length(self, source: Source, response: httpx.Response) -> None:
        """Raise DownloadFailed when a whole, shorter file is there: asking for the rest of it is in vain.

        A mirror that has not got everything yet is like this.
        """
        length = response.headers.get("content-length", "")
        if source.size_bytes is None or response.status_code != httpx.codes.OK or not length.isdecimal():
            return
        if int(length) < source.size_bytes:
            reason = f"the file there has {length} bytes, and its index promises {source.size_bytes}"
            raise DownloadFailed(source.name, source.url, reason, "build again later, or from another mirror")

    @contextmanager
    def _open(self, name: str, url: str, start: int) -> Iterator[httpx.Response]:
        if self._is_offline:
            raise NotOnThisMachine(name, without_credentials(url))
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        login = self._logins.get(urlsplit(url).netloc.rpartition("@")[2])
        if login is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                self._check(name, url, response.status_code)
                yield response
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
            raise Invalid(f"{name}: {without_credentials(url)} is no URL that can be fetched") from e

    def _check(self, name: str, url: str, status: int) -> None:
        if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            return
        where = without_credentials(url)
        if status in (401, 403):
            raise Denied(f"{name}: {where} asks for a user and password (HTTP {status}); put them into UV_INDEX_URL")
        if status in (404, 410):
            raise NotFound(f"{name}: {where} is not there (HTTP {status})")
        if status >= 500 or status in (408, 425, 429):
            raise _TryAgain(f"HTTP {status}")
        raise DownloadFailed(name, url, f"HTTP {status}")

    def _pause(self, attempt: int, name: str, url: str, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if attempt + 1 >= self._attempts:
            raise DownloadFailed(name, url, reason) from error
        self._log.warn("download", f"{name}: {reason}; trying again")
        if self._stop.wait(self._first_pause_s * 2**attempt):
            raise DownloadFailed(name, url, "another download failed") from error
