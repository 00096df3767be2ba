"""The pages in Debian's Chromium. With SANDERLING_SCREENSHOTS set, what they look like is kept there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sanderling.errors import Conflict
from sanderling.sdk import Device, Image, Model, Workspace

if TYPE_CHECKING:
    from tests.portal.conftest import LinkTo, Site

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
WIDE, NARROW = 1280, 390
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PAGES = {
    "overview": "/",
    "models": "/workspaces/demo/models",
    "model": "/workspaces/demo/models/digits",
    "images": "/workspaces/demo/images",
    "image": "/workspaces/demo/images/digits",
    "registry": "/workspaces/demo/registry",
    "devices": "/fleet/devices",
    "device": "/fleet/devices/press-4",
    "messages": "/fleet/messages",
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("Debian's chromium is not installed: scripts/test installs it as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def filled(model: Model, failed_image: Image, pushed: str, device: Device, demo: Workspace) -> Workspace:
    """A workspace with something on every page."""
    demo.registry.enable_admin()
    with suppress(Conflict):
        demo.registry.tokens.create("ci", ["digits", "a-folder-with-a-longer-name/*"], ["pull", "push"])
    return demo


@contextmanager
def opened(
    chromium: Browser,
    site: Site,
    *,
    width: int = WIDE,
    scripts: bool = True,
    sign_in: bool = True,
) -> Iterator[Page]:
    """A page of a new session. In the end nothing may have been refused, broken or fetched from elsewhere."""
    context = chromium.new_context(
        ignore_https_errors=True,  # the server's CA is its own
        viewport={"width": width, "height": 800},
        java_script_enabled=scripts,
    )
    faults: list[str] = []
    # A page that is an answer of 4xx is reported as an error too; that one is meant.
    is_fault = re.compile(r"(?!Failed to load resource)").match
    context.on(
        "console", lambda said: faults.append(said.text) if said.type == "error" and is_fault(said.text) else None
    )
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("request", lambda request: None if request.url.startswith(site.url) else faults.append(request.url))
    page = context.new_page()
    try:
        if sign_in:
            page.goto(f"{site.url}/sign-in#{site.new_code()}")
            expect(page.locator(".journey")).to_be_visible()
        yield page
        assert not faults
    finally:
        context.close()


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("SANDERLING_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder, f"{name}.png")), full_page=True)


def test_the_sign_in_link_signs_in_and_leaves_no_code_in_the_address(chromium: Browser, site: Site) -> None:
    with opened(chromium, site) as page:
        assert page.url == f"{site.url}/"
        page.go_back()
        assert "#" not in page.url


def test_the_code_is_pasted_where_scripts_are_off(chromium: Browser, site: Site) -> None:
    with opened(chromium, site, scripts=False, sign_in=False) as page:
        page.goto(site.url)
        keep(page, "sign-in")
        page.get_by_label("Or paste its code").fill(site.new_code())
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".journey")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in to Sanderling")).to_be_visible()


def test_a_code_that_was_used_is_answered_with_a_sentence(chromium: Browser, site: Site) -> None:
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/sign-in")
        page.get_by_label("Or paste its code").fill("used-before")
        with page.expect_response("**/sign-in") as answer:
            page.get_by_role("button", name="Sign in").click()
        assert answer.value.status == 403
        expect(page.get_by_role("alert")).to_contain_text("does not work")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_page_fits_its_window(chromium: Browser, site: Site, filled: Workspace, width: int) -> None:
    Workspace.create("a-workspace-whose-name-is-longer", client=site.owner, exist_ok=True)
    with opened(chromium, site, width=width) as page:
        page.goto(f"{site.url}/workspaces/demo")
        for name, path in PAGES.items():
            page.goto(f"{site.url}{path}")
            expect(page.get_by_role("main")).to_be_visible()
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                keep(page, f"{name}-{width}-{scheme}")


def test_the_keyboard_reaches_the_content_first(chromium: Browser, site: Site) -> None:
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/workspaces/demo/models")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()


def test_everything_that_can_be_used_has_a_name(chromium: Browser, site: Site, filled: Workspace) -> None:
    nameless = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')]
        .filter(one => !(one.textContent || '').trim() && !one.ariaLabel && !(one.labels && one.labels.length))
        .map(one => one.outerHTML)"""
    with opened(chromium, site) as page:
        for path in PAGES.values():
            page.goto(f"{site.url}{path}")
            assert page.evaluate(nameless) == []


def test_the_overview_follows_what_happens_by_itself(chromium: Browser, site: Site, tmp_path: Path) -> None:
    workspace = Workspace.create("followed", client=site.owner, exist_ok=True)
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/workspaces/followed")
        expect(page.locator("#journey")).to_contain_text("none registered")
        (tmp_path / "model.pkl").write_bytes(b"bytes")
        Model.register(workspace, tmp_path / "model.pkl", "churn")
        expect(page.locator("#journey")).to_contain_text("churn:1", timeout=15_000)


def test_a_file_is_downloaded_by_its_link(chromium: Browser, site: Site, model: Model) -> None:
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/workspaces/demo/models/digits/{model.version}")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download digits/model.pkl").click()
        assert Path(download.value.path()).read_bytes() == b"not a pickle, but bytes" * 100
        assert download.value.suggested_filename == "model.pkl"


def test_a_password_is_shown_when_asked_for_and_changed_when_confirmed(
    chromium: Browser, site: Site, filled: Workspace
) -> None:
    before = filled.registry.credentials().passwords["password"]
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/workspaces/demo/registry")
        secret = page.get_by_text(before, exact=True)
        expect(secret).to_be_hidden()
        page.get_by_text("Show password", exact=True).click()
        expect(secret).to_be_visible()
        keep(page, "registry-shown")
        button = page.get_by_role("button", name="Regenerate password", exact=True)
        expect(button).to_be_hidden()
        page.get_by_text("Regenerate… password", exact=True).click()
        button.click()
        expect(page.get_by_role("status")).to_contain_text("There is a new password")
        expect(page.get_by_text(before, exact=True)).to_have_count(0)
    assert filled.registry.credentials().passwords["password"] != before


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_token_is_made_and_its_password_shown_once(
    chromium: Browser, site: Site, filled: Workspace, width: int
) -> None:
    name = f"colleague-{width}"
    with opened(chromium, site, width=width) as page:
        page.goto(f"{site.url}/workspaces/demo/registry")
        page.get_by_text("Make a token…").click()
        page.get_by_role("textbox", name="Name").fill(name)
        page.locator("#token-repository").fill("digits")
        keep(page, f"registry-token-form-{width}")
        page.get_by_role("button", name="Make it").click()
        expect(page.get_by_role("status")).to_contain_text("is shown this once")
        expect(page.get_by_role("row").filter(has_text=f"demo.{name}")).to_contain_text("pull in demo/digits")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"registry-token-made-{width}")
        page.goto(f"{site.url}/workspaces/demo/registry")
        expect(page.get_by_text("is shown this once")).to_have_count(0)
    filled.registry.tokens.delete(name)


def test_a_command_is_copied_by_its_button(chromium: Browser, site: Site, filled: Workspace) -> None:
    with opened(chromium, site) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{site.url}/workspaces/demo/registry")
        page.get_by_role("button", name="Copy the login server").click()
        expect(page.get_by_role("button", name="Copy the login server")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == filled.login_server


def test_what_is_unfolded_stays_so_while_new_messages_arrive(
    chromium: Browser, site: Site, device: Device, link_to: LinkTo
) -> None:
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/fleet/devices/press-4")
        page.locator("#messages summary").first.click()
        unfolded = page.locator("#messages details[open]")
        name = unfolded.get_attribute("id")
        with link_to(device, "$edgeHub") as link:
            link.send("digits", "amlOutput", b'"news from the press"')
        expect(page.locator("#messages")).to_contain_text("news from the press", timeout=15_000)
        expect(unfolded).to_have_count(1)
        assert unfolded.get_attribute("id") == name
        expect(page.locator(f"#{name} summary")).to_be_focused()


def test_states_are_told_by_words(chromium: Browser, site: Site, device: Device) -> None:
    with opened(chromium, site) as page:
        page.goto(f"{site.url}/fleet/devices/press-4")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="sensor"))
        expect(row).to_contain_text("waiting to restart")
        expect(row).to_contain_text("ended with code 3")
        expect(row.get_by_role("cell").nth(2)).to_have_text("3")
