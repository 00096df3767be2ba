from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import RunningServer

WS = "/api/v1/workspaces/demo"
DIGEST = b"sha256:" + sha256(b"text").hexdigest().encode()


def register(server: RunningServer, name: str, **more: Any) -> Any:
    content = b"weights of " + name.encode()
    files = [{"path": "model.pkl", "digest": server.send("demo", content), "size": len(content)}]
    return server.api.post(f"{WS}/models", json={"name": name, "files": files} | more)


def refused(server: RunningServer, change: dict[str, Any]) -> Any:
    file = {"path": "m", "digest": server.send("demo", b"m"), "size": 1}
    return server.api.post(f"{WS}/models", json={"name": "bad", "files": [file]} | change)


def test_a_model_goes_in_and_comes_out_again(server: RunningServer) -> None:
    made = register(server, "digits", tags={"accuracy": "0.97"}, properties={"run": "7"}, description="Digits")
    assert made.status_code == 201
    model = made.json()
    assert {key: model[key] for key in ("name", "version", "id", "description", "tags", "properties", "sizeBytes")} == {
        "name": "digits",
        "version": 1,
        "id": "digits:1",
        "description": "Digits",
        "tags": {"accuracy": "0.97"},
        "properties": {"run": "7"},
        "sizeBytes": 17,
    }
    assert model["createdAt"].endswith("Z")
    assert server.api.get(f"{WS}/models/digits").json() == model
    assert server.api.get(f"{WS}/models/digits/versions/1").json() == model
    assert model in server.api.get(f"{WS}/models", params={"tag": "accuracy=0.97", "latest": True}).json()["models"]
    file = server.api.get(f"{WS}/models/digits/versions/1/files/model.pkl")
    assert (file.status_code, file.content) == (200, b"weights of digits")
    assert file.headers["etag"] == f'"{model["files"][0]["digest"]}"'
    part = server.api.get(f"{WS}/models/digits/versions/1/files/model.pkl", headers={"Range": "bytes=0-6"})
    assert (part.status_code, part.content) == (206, b"weights")


def test_a_deleted_version_is_gone_and_its_number_stays_used(server: RunningServer) -> None:
    register(server, "gone")
    assert server.api.delete(f"{WS}/models/gone/versions/1").status_code == 204
    answer = server.api.get(f"{WS}/models/gone/versions/1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert register(server, "gone").json()["version"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"tags": ["a"]},
        {"tags": {"a": 1}},
        {"files": []},
        {"files": [{"path": "../up", "digest": "sha256:" + "0" * 64}]},
        {"files": [{"path": "a", "digest": "md5:1"}]},
        {"files": [{"path": "a", "digest": "sha256:" + "0" * 64, "size": 3}]},
        {"name": "no spaces"},
        {"description": 7},
    ],
)
def test_a_bad_registration_is_invalid_and_changes_nothing(server: RunningServer, change: dict[str, Any]) -> None:
    answer = refused(server, change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid"), answer.text
    assert server.api.get(f"{WS}/models", params={"name": "bad"}).json()["models"] == []


def test_a_path_that_comes_twice_and_a_size_that_is_not_true_are_refused(server: RunningServer) -> None:
    digest = server.send("demo", b"twice")
    file = {"path": "m", "digest": digest, "size": 5}
    twice = server.api.post(f"{WS}/models", json={"name": "bad", "files": [file, file]})
    assert "given twice" in twice.json()["error"]["message"]
    wrong = server.api.post(f"{WS}/models", json={"name": "bad", "files": [file | {"size": 6}]})
    assert "has 5 bytes, but 6" in wrong.json()["error"]["message"]


def test_a_body_that_differs_from_its_digest_leaves_nothing(server: RunningServer) -> None:
    digest = f"sha256:{sha256(b'promised').hexdigest()}"
    answer = server.api.put(f"{WS}/blobs/{digest}", content=b"something else")
    assert answer.status_code == 400
    assert digest in answer.json()["error"]["message"]
    assert server.api.head(f"{WS}/blobs/{digest}").status_code == 404
    assert list((server.data / "blobs" / "workspace" / "uploads").iterdir()) == []


def test_a_blob_is_streamed_and_found_with_its_size(server: RunningServer) -> None:
    content = bytes(range(256)) * 20_000
    digest = f"sha256:{sha256(content).hexdigest()}"
    pieces = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
    assert server.api.put(f"{WS}/blobs/{digest}", content=pieces).status_code == 201
    found = server.api.head(f"{WS}/blobs/{digest}")
    assert (found.status_code, int(found.headers["content-length"])) == (200, len(content))


def test_a_json_body_past_the_limit_is_413_and_the_server_goes_on(server: RunningServer) -> None:
    answer = server.api.post(f"{WS}/models", content=b"[" * (9 * 1024**2))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "invalid")
    assert server.anyone.get("/healthz").json() == {"status": "ok"}


def test_json_that_is_nested_without_end_is_invalid(server: RunningServer) -> None:
    answer = server.api.post(f"{WS}/models", content=b"[" * 1_000_000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid")


def test_unknown_names_and_paths_are_404_in_the_apis_shape(server: RunningServer) -> None:
    for path in (f"{WS}/models/nothing", "/api/v1/workspaces/nowhere", "/api/v1/nothing"):
        answer = server.api.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_a_stranger_cannot_make_the_server_keep_a_long_body(server: RunningServer, headers: dict[str, str]) -> None:
    for path in ("/api/v1/sign-in", f"{WS}/models"):
        answer = server.anyone.post(path, content=b"[" * 100_000, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
        assert answer.headers["connection"] == "close"


def test_values_that_nothing_can_hold_are_400_everywhere(server: RunningServer) -> None:
    huge, half = "9" * 30, b'"\\ud800"'
    json_type = {"Content-Type": "application/json"}
    answers = [server.api.get(f"{WS}/{path}") for path in (f"models/m/versions/{huge}", f"images/i/versions/{huge}")]
    answers.append(server.api.get(f"/api/v1/messages?after={huge}"))
    answers.append(server.anyone.post("/api/v1/sign-in", content=b'{"code":' + half + b"}", headers=json_type))
    body = b'{"name":"m","description":' + half + b',"files":[{"path":"a","digest":"' + DIGEST + b'"}]}'
    server.send("demo", b"text")
    answers.append(server.api.post(f"{WS}/models", content=body, headers=json_type))
    server.api.put("/devices/half", json={"deviceId": "half"})
    answers.append(server.api.patch("/twins/half", content=b'{"tags":{"a":' + half + b"}}", headers=json_type))
    assert [answer.status_code for answer in answers] == [400] * len(answers)
    assert server.api.get("/twins/half").json()["tags"] == {}
