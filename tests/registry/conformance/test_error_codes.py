"""distribution-spec 1.1, "Error Codes": each code with its answer; methods and paths that there are not."""

from collections.abc import Iterator

import httpx
import pytest
from tests.registry.conformance.repository import ERROR_CODES, Repository, descriptor, index, refused
from tests.registry.serving import served
from tests.registry.world import basic

from sanderling.oci import Digest, WireError, media_types

MISSING = Digest.of(b"never pushed")
# Codes that the specification does not have: of Docker's `_catalog`, and of 5xx.
OURS = {"PAGINATION_NUMBER_INVALID", "UNAVAILABLE"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The admin user of `demo`, to whom other workspaces are closed."""
    with served(tmp_path_factory.mktemp("registry")) as (address, credentials):
        headers = basic("demo", credentials.set_admin_enabled("demo", True).passwords[0])
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30) as client:
            yield client


def test_our_codes_are_those_of_the_specification() -> None:
    assert {code.name for code in WireError} == ERROR_CODES | OURS


def test_each_code_has_its_answer(repository: Repository) -> None:
    http = repository.http
    assert refused(http.get(repository.blob(MISSING)), 404, "BLOB_UNKNOWN")
    location = repository.begin()
    assert refused(repository.chunk(location, b"x", 5), 416, "BLOB_UPLOAD_INVALID")
    assert refused(http.get(f"{repository.uploads}unknown"), 404, "BLOB_UPLOAD_UNKNOWN")
    assert refused(http.put(location, params={"digest": MISSING}), 400, "DIGEST_INVALID")
    missing = index(descriptor(media_types.OCI_MANIFEST, MISSING, 1))
    assert refused(repository.put(missing), 404, "MANIFEST_BLOB_UNKNOWN")
    assert refused(repository.put(b"{}", "tag", media_types.OCI_MANIFEST), 400, "MANIFEST_INVALID")
    assert refused(http.get(repository.manifest("none")), 404, "MANIFEST_UNKNOWN")
    assert refused(http.get("/v2/Demo/x/tags/list"), 400, "NAME_INVALID")
    assert refused(http.get("/v2/demo/none/tags/list"), 404, "NAME_UNKNOWN")
    assert refused(http.patch(repository.begin(), content=b"x", headers={"Content-Range": "0-5"}), 400, "SIZE_INVALID")
    assert refused(http.get(repository.manifest("tag"), headers={"Authorization": ""}), 401, "UNAUTHORIZED")
    assert refused(http.get("/v2/other/x/tags/list"), 403, "DENIED")
    assert refused(http.request("PATCH", repository.manifest("tag")), 405, "UNSUPPORTED")


def test_who_asks_too_often_with_a_wrong_password_is_slowed(repository: Repository) -> None:
    for _ in range(8):
        response = repository.http.get("/v2/", auth=("guess", "wrong"))
    assert refused(response, 429, "TOOMANYREQUESTS")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/", {"GET", "HEAD"}),
        ("/v2/_catalog", {"GET", "HEAD"}),
        ("/v2/demo/x/tags/list", {"GET", "HEAD"}),
        ("/v2/demo/x/manifests/tag", {"GET", "HEAD", "PUT", "DELETE"}),
        (f"/v2/demo/x/blobs/{MISSING}", {"GET", "HEAD", "DELETE"}),
        (f"/v2/demo/x/referrers/{MISSING}", {"GET", "HEAD"}),
        ("/v2/demo/x/blobs/uploads/", {"POST"}),
        ("/v2/demo/x/blobs/uploads/id", {"GET", "HEAD", "PATCH", "PUT", "DELETE"}),
    ],
)
def test_a_method_that_there_is_not_is_405(repository: Repository, path: str, allowed: set[str]) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        response = repository.http.request(method, path)
        if method in allowed:
            assert response.status_code not in (405, 500)
        else:
            assert response.status_code == 405
            assert method == "HEAD" or refused(response, 405, "UNSUPPORTED")
            assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/v2/x", "/v2//", "/v2/demo/x/tags", "/v2/demo/x/tags/list/", "/v2/demo/x/manifests/"]
)
def test_a_path_that_there_is_not_is_404(repository: Repository, path: str) -> None:
    assert refused(repository.http.get(path), 404, "UNSUPPORTED")


@pytest.mark.parametrize(
    "name",
    ["A", "a/B", "-a", "a-", "a//b", "/a", "a/", "a..b", "a___b", "a._b", "ä", "a b", "a\0", "..", "a/../b", "x" * 256],
)
def test_a_name_that_is_none_is_refused(repository: Repository, name: str) -> None:
    path = "/v2/" + "".join(c if (c.isascii() and c.isalnum()) or c in "/_.-" else _encoded(c) for c in name)
    # As it is: httpx would resolve the dots.
    request = repository.http.build_request("GET", "/", extensions={"target": f"{path}/manifests/tag".encode()})
    assert refused(repository.http.send(request, auth=None), 400, "NAME_INVALID")


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


@pytest.mark.parametrize("name", ["a", "demo/a.b_c__d-e---f/0", "demo/" + "x" * 250])
def test_a_name_that_is_one_is_not_refused(repository: Repository, name: str) -> None:
    status = 404 if name.startswith("demo/") else 403
    assert repository.http.get(f"/v2/{name}/manifests/tag").status_code == status
