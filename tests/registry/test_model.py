"""The whole HTTP surface in random order, beside a simple model of what a registry is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Engine
from tests.registry.conformance.repository import Repository, descriptor, index, manifest
from tests.registry.serving import served
from tests.registry.world import EACH_DATABASE, basic

from sanderling.oci import Digest, media_types

_examples = count()

REPOSITORIES = st.sampled_from(["a", "b"])
CONTENTS = st.integers(0, 4)
TAGS = st.sampled_from(["1", "10", "2", "A", "a", "_"])
KINDS = st.sampled_from(["application/x-one", "application/x-two"])
SLOTS = st.integers(0, 2)


@dataclass
class Known:
    """What a repository should hold."""

    is_here: bool = False
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


class RegistryMachine(RuleBasedStateMachine):
    """Two repositories, five blobs, six tags, three uploads at a time."""

    http: httpx.Client

    @initialize()
    def begin(self) -> None:
        self.prefix = f"demo/example-{next(_examples)}"
        self.repositories = {name: Repository(self.http, f"{self.prefix}/{name}") for name in "ab"}
        self.known = {name: Known() for name in "ab"}
        self.uploads: dict[int, tuple[str, str, bytes]] = {}  # repository, location, content so far
        self.seen: list[Digest] = [Digest.of(self.prefix.encode())]  # manifests there ever were

    def content(self, number: int) -> bytes:
        return f"{self.prefix} {number} ".encode() * (1 + number * 50)

    def keep_blob(self, name: str, content: bytes) -> None:
        self.known[name].is_here = True
        self.known[name].blobs[Digest.of(content)] = content

    # Blobs

    @rule(name=REPOSITORIES, number=CONTENTS)
    def push_blob(self, name: str, number: int) -> None:
        self.repositories[name].push_blob(self.content(number))
        self.keep_blob(name, self.content(number))

    @rule(name=REPOSITORIES, number=CONTENTS, is_named=st.booleans())
    def mount(self, name: str, number: int, is_named: bool) -> None:
        repository, content = self.repositories[name], self.content(number)
        other = {"a": "b", "b": "a"}[name]
        source = {"from": self.repositories[other].name} if is_named else {}
        sources = [self.known[other]] if is_named else self.known.values()
        response = self.http.post(repository.uploads, params={"mount": Digest.of(content), **source})
        if any(Digest.of(content) in known.blobs for known in sources):
            assert response.status_code == 201
            self.keep_blob(name, content)
        else:
            assert response.status_code == 202
            assert self.http.delete(response.headers["location"]).status_code == 204

    @rule(name=REPOSITORIES, number=CONTENTS)
    def delete_blob(self, name: str, number: int) -> None:
        digest = Digest.of(self.content(number))
        was_here = self.known[name].blobs.pop(digest, None) is not None
        assert self.http.delete(self.repositories[name].blob(digest)).status_code == (202 if was_here else 404)

    @rule(name=REPOSITORIES, number=CONTENTS, first=st.integers(0, 300), length=st.integers(1, 300))
    def pull_blob(self, name: str, number: int, first: int, length: int) -> None:
        content = self.content(number)
        path = self.repositories[name].blob(Digest.of(content))
        response = self.http.get(path)
        part = self.http.get(path, headers={"Range": f"bytes={first}-{first + length - 1}"})
        if Digest.of(content) not in self.known[name].blobs:
            assert (response.status_code, part.status_code) == (404, 404)
            return
        assert (response.status_code, response.content) == (200, content)
        assert part.status_code == (206 if first < len(content) else 416)
        assert part.status_code == 416 or part.content == content[first : first + length]

    # Uploads

    @rule(slot=SLOTS, name=REPOSITORIES)
    def begin_upload(self, slot: int, name: str) -> None:
        self.uploads[slot] = (name, self.repositories[name].begin(), b"")

    @rule(slot=SLOTS, number=CONTENTS, length=st.integers(1, 2000), is_late=st.booleans())
    def add_chunk(self, slot: int, number: int, length: int, is_late: bool) -> None:
        if slot not in self.uploads:
            return
        name, location, so_far = self.uploads[slot]
        chunk = self.content(number)[len(so_far) :][:length]
        if not chunk:
            return
        response = self.repositories[name].chunk(location, chunk, len(so_far) + is_late)
        assert response.status_code == (416 if is_late else 202)
        so_far += b"" if is_late else chunk
        status = self.http.get(location)
        assert (status.status_code, status.headers["range"]) == (204, f"0-{max(len(so_far) - 1, 0)}")
        self.uploads[slot] = (name, location, so_far)

    @rule(slot=SLOTS, number=CONTENTS, with_rest=st.booleans())
    def end_upload(self, slot: int, number: int, with_rest: bool) -> None:
        if slot not in self.uploads:
            return
        name, location, so_far = self.uploads.pop(slot)
        content = self.content(number)
        whole = so_far + (content[len(so_far) :] if with_rest else b"")
        response = self.http.put(location, params={"digest": Digest.of(content)}, content=whole[len(so_far) :])
        assert response.status_code == (201 if whole == content else 400)
        if whole == content:
            self.keep_blob(name, content)
        assert self.http.get(location).status_code == 404

    @rule(slot=SLOTS)
    def cancel_upload(self, slot: int) -> None:
        if slot in self.uploads:
            _, location, _ = self.uploads.pop(slot)
            assert self.http.delete(location).status_code == 204
            assert self.http.delete(location).status_code == 404

    # Manifests

    def push_manifest(self, name: str, document: dict[str, Any], tags: list[str], is_whole: bool) -> None:
        raw = json.dumps(document).encode()
        digest = Digest.of(raw)
        response = self.repositories[name].put(raw, digest, tag=tags)
        assert response.status_code == (201 if is_whole else 404), response.text
        if is_whole:
            known = self.known[name]
            known.is_here = True
            known.manifests[digest] = raw
            known.tags.update(dict.fromkeys(tags, digest))
            self.seen.append(digest)

    @rule(
        name=REPOSITORIES,
        numbers=st.lists(CONTENTS, min_size=1, max_size=3),
        tags=st.lists(TAGS, max_size=2, unique=True),
        kind=st.none() | KINDS,
        subject=st.none() | st.integers(0, 20),
    )
    def push_image(self, name: str, numbers: list[int], tags: list[str], kind: str | None, subject: int | None) -> None:
        blobs = [descriptor("application/x-blob", Digest.of(c), len(c)) for c in map(self.content, numbers)]
        document = manifest(blobs[0], blobs[1:])
        if kind is not None:
            document["artifactType"] = kind
        if subject is not None:
            document["subject"] = descriptor(media_types.OCI_MANIFEST, self.seen[subject % len(self.seen)], 7)
        is_whole = all(blob["digest"] in self.known[name].blobs for blob in blobs)
        self.push_manifest(name, document, tags, is_whole)

    @rule(name=REPOSITORIES, numbers=st.lists(st.integers(0, 20), max_size=3), tags=st.lists(TAGS, max_size=1))
    def push_index(self, name: str, numbers: list[int], tags: list[str]) -> None:
        known = self.known[name]
        digests = [self.seen[number % len(self.seen)] for number in numbers]
        parts = [
            descriptor(
                json.loads(known.manifests.get(digest, b"{}")).get("mediaType", media_types.OCI_MANIFEST),
                digest,
                len(known.manifests.get(digest, b"")),
            )
            for digest in digests
        ]
        self.push_manifest(name, index(*parts), tags, all(digest in known.manifests for digest in digests))

    @rule(name=REPOSITORIES, number=st.integers(0, 20))
    def delete_manifest(self, name: str, number: int) -> None:
        known, digest = self.known[name], self.seen[number % len(self.seen)]
        was_here = known.manifests.pop(digest, None) is not None
        known.tags = {tag: tagged for tag, tagged in known.tags.items() if tagged != digest}
        response = self.http.delete(self.repositories[name].manifest(digest))
        assert response.status_code == (202 if was_here else 404)

    @rule(name=REPOSITORIES, tag=TAGS)
    def delete_tag(self, name: str, tag: str) -> None:
        was_here = self.known[name].tags.pop(tag, None) is not None
        response = self.http.delete(self.repositories[name].manifest(tag))
        assert response.status_code == (202 if was_here else 404)

    @rule(name=REPOSITORIES, reference=TAGS | st.integers(0, 20), method=st.sampled_from(["GET", "HEAD"]))
    def pull_manifest(self, name: str, reference: str | int, method: str) -> None:
        known = self.known[name]
        digest = known.tags.get(reference) if isinstance(reference, str) else self.seen[reference % len(self.seen)]
        written = reference if isinstance(reference, str) else digest
        response = self.http.request(method, self.repositories[name].manifest(str(written)))
        raw = known.manifests.get(digest) if digest is not None else None
        assert response.status_code == (404 if raw is None else 200)
        if raw is not None:
            assert response.headers["docker-content-digest"] == digest
            assert response.headers["content-type"] == json.loads(raw)["mediaType"]
            assert response.content == (raw if method == "GET" else b"")

    # Listings

    @rule(name=REPOSITORIES, n=st.none() | st.integers(0, 8), last=st.just("") | TAGS)
    def list_tags(self, name: str, n: int | None, last: str) -> None:
        known, repository = self.known[name], self.repositories[name]
        parameters = {"last": last} if last else {}
        if n is not None:
            parameters["n"] = str(n)
        response = self.http.get(f"{repository.path}/tags/list", params=parameters)
        if not known.is_here:
            assert response.status_code == 404
            return
        wanted = sorted(tag for tag in known.tags if tag > last)
        assert response.json() == {"name": repository.name, "tags": wanted[:n]}
        assert ("link" in response.headers) == bool(n and len(wanted) > n)

    @rule(name=REPOSITORIES, number=st.integers(0, 20), kind=st.none() | KINDS)
    def list_referrers(self, name: str, number: int, kind: str | None) -> None:
        subject = self.seen[number % len(self.seen)]
        expected = set()
        for digest, raw in self.known[name].manifests.items():
            document = json.loads(raw)
            is_about = document.get("subject", {}).get("digest") == subject
            if is_about and kind in (None, document.get("artifactType", "application/x-blob")):
                expected.add(digest)
        response = self.repositories[name].referrers(subject, **({"artifactType": kind} if kind else {}))
        assert {entry["digest"] for entry in response.json()["manifests"]} == expected

    @rule()
    def list_repositories(self) -> None:
        names = self.http.get("/v2/_catalog", params={"last": f"{self.prefix}/", "n": "2"}).json()["repositories"]
        expected = [self.repositories[name].name for name in "ab" if self.known[name].manifests]
        assert [name for name in names if name.startswith(f"{self.prefix}/")] == expected


@pytest.fixture
def http(tmp_path: Path, engine: Engine) -> Iterator[httpx.Client]:
    with served(tmp_path, engine=engine) as (address, credentials):
        headers = basic("demo", credentials.set_admin_enabled("demo", True).passwords[0])
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60) as client:
            yield client


@EACH_DATABASE
def test_a_registry_is_what_the_model_says(http: httpx.Client, database: str) -> None:
    machine = type("Machine", (RegistryMachine,), {"http": http})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if database == "sqlite" else 5,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
