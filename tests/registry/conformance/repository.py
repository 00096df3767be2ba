"""A repository as a client sees it: each call is one request of the specification, or a few that belong together."""

import json
from itertools import count
from typing import Any

import httpx

from sanderling.oci import Digest, media_types

_numbers = count()

# distribution-spec 1.1, "Error Codes": the codes there are.
ERROR_CODES = frozenset(
    [
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    ]
)


def refused(response: httpx.Response, status: int, code: str) -> bool:
    """Say whether the answer is this refusal, in the specification's form."""
    assert (response.status_code, _code(response)) == (status, code), response.text
    return True


def _code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["errors"]
    for error in document["errors"]:
        assert error["code"] in ERROR_CODES
        assert isinstance(error["message"], str)
    return str(document["errors"][0]["code"])


class Repository:
    """One repository, by HTTP."""

    def __init__(self, http: httpx.Client, name: str = "") -> None:
        self.http = http
        self.name = name or f"demo/repository-{next(_numbers)}"
        self.path = f"/v2/{self.name}"

    def blob(self, digest: str) -> str:
        return f"{self.path}/blobs/{digest}"

    def manifest(self, reference: str) -> str:
        return f"{self.path}/manifests/{reference}"

    @property
    def uploads(self) -> str:
        return f"{self.path}/blobs/uploads/"

    def begin(self, **parameters: str) -> str:
        """Begin an upload; return where it is."""
        response = self.http.post(self.uploads, params=parameters, headers={"Content-Length": "0"})
        assert response.status_code == 202, response.text
        return response.headers["location"]

    def chunk(self, location: str, content: bytes, first: int, method: str = "PATCH", **parameters: str) -> Any:
        headers = {"Content-Range": f"{first}-{first + len(content) - 1}", "Content-Type": "application/octet-stream"}
        url = httpx.URL(location).copy_merge_params(parameters)
        return self.http.request(method, url, content=content, headers=headers)

    def push_blob(self, content: bytes, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(content, algorithm)
        response = self.http.post(self.uploads, params={"digest": digest}, content=content)
        assert response.status_code == 201, response.text
        return digest

    def put(
        self, document: Any, reference: str = "", media_type: str | None = "inside", **parameters: Any
    ) -> httpx.Response:
        """Push a manifest, by its digest where no *reference* is given."""
        raw = document if isinstance(document, bytes) else json.dumps(document, indent=1).encode()
        if media_type == "inside":
            media_type = json.loads(raw)["mediaType"]
        headers = {} if media_type is None else {"Content-Type": media_type}
        path = self.manifest(reference or Digest.of(raw))
        return self.http.put(path, content=raw, headers=headers, params=parameters)

    def push(self, document: Any, reference: str = "", **parameters: Any) -> Digest:
        response = self.put(document, reference, **parameters)
        assert response.status_code == 201, response.text
        return Digest.parse(response.headers["docker-content-digest"])

    def image(self, layer: bytes = b"layer", algorithm: str = "sha256", **fields: Any) -> dict[str, Any]:
        """Push a config and a layer; return the manifest of the image that they make."""
        config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
        return manifest(
            descriptor(media_types.OCI_CONFIG, self.push_blob(config, algorithm), len(config)),
            [descriptor(media_types.OCI_LAYER_GZIP, self.push_blob(layer, algorithm), len(layer))],
            **fields,
        )

    def artifact(self, **fields: Any) -> dict[str, Any]:
        """Push the empty config; return a manifest with it as config and only layer (image-spec 1.1)."""
        empty = descriptor(media_types.OCI_EMPTY, self.push_blob(b"{}"), 2)
        return manifest(empty, [empty], **{"artifactType": "application/vnd.example.sbom.v1", **fields})

    def referrers(self, digest: str, **parameters: str) -> httpx.Response:
        response = self.http.get(f"{self.path}/referrers/{digest}", params=parameters)
        assert response.status_code == 200, response.text
        # distribution-spec 1.1, "Listing Referrers": an image index.
        assert response.headers["content-type"] == media_types.OCI_INDEX
        document = response.json()
        assert (document["schemaVersion"], document["mediaType"]) == (2, media_types.OCI_INDEX)
        return response

    def tags(self, **parameters: Any) -> list[str]:
        response = self.http.get(f"{self.path}/tags/list", params=parameters)
        assert response.status_code == 200, response.text
        document = response.json()
        assert document["name"] == self.name
        return list(document["tags"])


def descriptor(media_type: str, digest: str, size: int, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size, **fields}


def manifest(config: dict[str, Any], layers: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers, **fields}


def index(*manifests: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(manifests), **fields}


def described(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the descriptor of a manifest as `Repository.put` writes it."""
    raw = json.dumps(document, indent=1).encode()
    return descriptor(document["mediaType"], Digest.of(raw), len(raw), **fields)
