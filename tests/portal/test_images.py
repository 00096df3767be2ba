from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from sanderling.portal.images import culprit_text
from sanderling.sdk import BuildFailed, Image, Workspace

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_build_that_failed_names_what_is_to_blame_and_shows_the_last_lines(
    browser: httpx.Client, demo: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    (tmp_path / "env.yml").write_text("dependencies:\n  - pip:\n    - --no-index\n    - not-anywhere==1.0\n")
    image = Image.create(demo, "blamed", tmp_path / "score.py", environment=tmp_path / "env.yml")
    with pytest.raises(BuildFailed):
        image.wait(timeout_s=60)
    page = browser.get("/workspaces/demo/images/blamed").text
    fault = page[page.index('<div id="fault"') : page.index("What it is")]
    assert '<p id="culprit">To blame: the package not-anywhere</p>' in fault
    assert "lines of the log</summary>" in fault
    assert "choosing versions for" in fault


def test_a_culprit_is_told_in_one_line() -> None:
    assert culprit_text({"file": "score.py", "line": 3}) == "score.py, line 3"
    assert culprit_text({"package": "numpy", "file": "myenv.yml"}) == "the package numpy; myenv.yml"
    assert culprit_text({}) == ""


def test_what_people_wrote_of_an_image_stays_text(browser: httpx.Client, failed_image: Image) -> None:
    for path in ("/workspaces/demo/images", "/workspaces/demo/images/digits", "/workspaces/demo"):
        assert "<script>alert" not in browser.get(path).text


def test_an_empty_workspace_says_how_to_build(browser: httpx.Client, site: Site) -> None:
    Workspace.create("empty", client=site.owner, exist_ok=True)
    assert "sanderling image build" in browser.get("/workspaces/empty/images").text


def test_an_image_that_is_not_there_is_not_found(browser: httpx.Client, demo: Workspace) -> None:
    assert browser.get("/workspaces/demo/images/none").status_code == 404
    assert browser.get("/workspaces/demo/images/digits/99").status_code == 404
