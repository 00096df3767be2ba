from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from sanderling.sdk import Image, Workspace

if TYPE_CHECKING:
    from tests.portal.conftest import Site


def test_images_are_listed_with_their_state_and_models(browser: httpx.Client, failed_image: Image) -> None:
    page = browser.get("/workspaces/demo/images").text
    assert f"/workspaces/demo/images/digits/{failed_image.version}" in page
    assert "failed" in page
    assert "digits:1" in page


def test_a_build_that_failed_says_why_above_all_else(browser: httpx.Client, failed_image: Image) -> None:
    page = browser.get("/workspaces/demo/images/digits").text
    assert page.index("The build failed") < page.index("What it is") < page.index("Build log")
    assert failed_image.error
    assert failed_image.error.splitlines()[0][:40] in page.replace("&#39;", "'")
    assert "was not built" in page
    assert "/workspaces/demo/models/digits/1" in page
    assert "data-refresh-s" not in page


def test_what_people_wrote_of_an_image_stays_text(browser: httpx.Client, failed_image: Image) -> None:
    for path in ("/workspaces/demo/images", "/workspaces/demo/images/digits", "/workspaces/demo"):
        assert "<script>alert" not in browser.get(path).text


def test_an_empty_workspace_says_how_to_build(browser: httpx.Client, site: Site) -> None:
    Workspace.create("empty", client=site.owner, exist_ok=True)
    assert "sanderling image build" in browser.get("/workspaces/empty/images").text


def test_an_image_that_is_not_there_is_not_found(browser: httpx.Client, demo: Workspace) -> None:
    assert browser.get("/workspaces/demo/images/none").status_code == 404
    assert browser.get("/workspaces/demo/images/digits/99").status_code == 404
