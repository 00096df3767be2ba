"""The same thing asked for many times at once: each is answered, none by 500, and what is left is whole."""

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from tests.registry.conformance.repository import Repository, described, index
from tests.registry.serving import served
from tests.registry.world import EACH_DATABASE, basic

from sanderling.oci import Digest

pytestmark = EACH_DATABASE


@pytest.fixture
def http(tmp_path: Path, engine: Engine) -> Iterator[httpx.Client]:
    with served(tmp_path, engine=engine) as (address, credentials):
        headers = basic("demo", credentials.set_admin_enabled("demo", True).passwords[0])
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=60) as client:
            yield client


@pytest.fixture
def repository(http: httpx.Client) -> Repository:
    return Repository(http)


def at_once(*requests: Callable[[], httpx.Response]) -> list[int]:
    """Send them all at the same time; return the statuses in their order."""
    with ThreadPoolExecutor(16) as pool:
        return [response.status_code for response in pool.map(lambda send: send(), requests)]


def test_one_delete_of_many_deletes(repository: Repository) -> None:
    image = repository.image()
    digest = repository.push(image, "one")
    for path, left in (
        (repository.manifest("one"), [digest]),
        (repository.manifest(digest), []),
        (repository.blob(image["config"]["digest"]), []),
    ):
        statuses = at_once(*[lambda path=path: repository.http.delete(path)] * 24)
        assert sorted(statuses) == [202] + [404] * 23
        assert repository.http.get(path).status_code == 404
        assert all(repository.http.get(repository.manifest(one)).status_code == 200 for one in left)


def test_uploads_that_end_twice_end_once(repository: Repository) -> None:
    location, other = repository.begin(), repository.begin()
    digest = Digest.of(b"content")
    repository.chunk(location, b"content", 0)
    statuses = at_once(
        *[lambda: repository.http.put(location, params={"digest": digest})] * 8,
        *[lambda: repository.http.delete(other)] * 8,
    )
    assert statuses[:8].count(201) >= 1
    assert set(statuses[:8]) <= {201, 404, 409}
    assert statuses[8:].count(204) >= 1
    assert set(statuses[8:]) <= {204, 404, 409}
    assert repository.http.get(repository.blob(digest)).content == b"content"


def test_one_manifest_pushed_by_many_is_there_once(repository: Repository) -> None:
    image = repository.image()
    raw = json.dumps(image).encode()
    statuses = at_once(*[lambda tag=tag: repository.put(raw, f"tag{tag % 5}") for tag in range(30)])
    assert statuses == [201] * 30
    assert repository.tags() == [f"tag{number}" for number in range(5)]
    assert repository.http.get(repository.manifest(Digest.of(raw))).content == raw


def test_a_tag_pushed_by_many_is_one_of_theirs(repository: Repository) -> None:
    images = [repository.image(f"layer {number}".encode()) for number in range(12)]
    statuses = at_once(*[lambda image=image: repository.put(image, "latest") for image in images] * 2)
    assert statuses == [201] * 24
    latest = repository.http.get(repository.manifest("latest")).json()
    assert latest in images


def test_one_blob_pushed_mounted_and_linked_by_many_is_there(repository: Repository, http: httpx.Client) -> None:
    source, content = Repository(http), b"content" * 1000
    digest = source.push_blob(content)
    uploads = {"digest": digest}
    statuses = at_once(
        *[lambda: http.post(repository.uploads, params=uploads, content=content)] * 10,
        *[lambda: http.post(repository.uploads, params={"mount": digest, "from": source.name})] * 10,
        *[lambda: http.put(repository.begin(), params=uploads, content=content)] * 10,
    )
    assert statuses == [201] * 30
    assert http.get(repository.blob(digest)).content == content


def test_new_repositories_may_be_made_by_many(http: httpx.Client) -> None:
    statuses = at_once(
        *[
            lambda name=name: http.post(
                f"/v2/demo/new-{name % 3}/blobs/uploads/", params={"digest": Digest.of(b"x")}, content=b"x"
            )
            for name in range(24)
        ]
    )
    assert statuses == [201] * 24


def test_pushes_and_deletes_in_any_order_leave_what_is_whole(repository: Repository) -> None:
    """Every manifest that is there can be read, every tag leads to one, every answer is one of the right ones."""
    images = [repository.image(f"layer {number}".encode()) for number in range(4)]
    indexes = [index(described(image), annotations={"n": str(n)}) for n, image in enumerate(images)]
    digests = [described(document)["digest"] for document in images + indexes]
    pushes = [
        (lambda document=document, tag=tag: repository.put(document, tag))
        for document in images + indexes
        for tag in ("a", "b", "")
    ]
    deletes = [
        (lambda reference=reference: repository.http.delete(repository.manifest(reference)))
        for reference in (*digests, "a", "b")
    ]
    reads = [
        (lambda path=path: repository.http.get(f"{repository.path}/{path}"))
        for path in ("tags/list", "manifests/a", f"manifests/{digests[0]}", f"referrers/{digests[0]}")
    ]
    requests = (pushes + deletes + reads) * 4
    random.Random(5).shuffle(requests)
    assert set(at_once(*requests)) <= {200, 201, 202, 404}
    for tag in repository.tags():
        found = repository.http.get(repository.manifest(tag))
        assert Digest.of(found.content) == found.headers["docker-content-digest"]
    for document in images:
        assert repository.put(document, "a").status_code == 201
    assert set(repository.tags()) >= {"a"}
