from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from sanderling.sdk import Model, Workspace

if TYPE_CHECKING:
    from tests.portal.conftest import Site


def test_a_model_is_listed_and_described(browser: httpx.Client, model: Model) -> None:
    assert f"/workspaces/demo/models/digits/{model.version}" in browser.get("/workspaces/demo/models").text
    page = browser.get("/workspaces/demo/models/digits").text
    assert "digits/model.pkl" in page
    assert "2.30 kB" in page
    assert f"--model digits:{model.version}" in page


def test_what_people_wrote_stays_text(browser: httpx.Client, model: Model) -> None:
    for path in ("/", "/workspaces/demo/models", "/workspaces/demo/models/digits"):
        page = browser.get(path).text
        assert "<script>alert" not in page
        assert "<b>&.txt" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_file_comes_as_it_was_registered_and_never_as_a_page(browser: httpx.Client, model: Model) -> None:
    answer = browser.get("/workspaces/demo/models/digits/1/files/digits/%3Cb%3E%26.txt")
    assert answer.content == b"labels"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_is_not_the_models_is_not_there(browser: httpx.Client, model: Model) -> None:
    for path in ("digits/none", "../../../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"):
        assert browser.get(f"/workspaces/demo/models/digits/1/files/{path}").status_code == 404


def test_an_empty_workspace_says_how_to_begin(browser: httpx.Client, site: Site) -> None:
    Workspace.create("empty", client=site.owner, exist_ok=True)
    assert "sanderling model register" in browser.get("/workspaces/empty/models").text


def test_the_workspace_that_was_looked_at_is_kept(browser: httpx.Client, site: Site, model: Model) -> None:
    Workspace.create("zebra", client=site.owner, exist_ok=True)
    browser.get("/workspaces/zebra/models")
    assert "<h1>zebra</h1>" in browser.get("/").text
    browser.get("/workspaces/demo")
    assert "<h1>demo</h1>" in browser.get("/").text
