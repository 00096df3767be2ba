"""The colours are readable, on paper and in the dark; nothing comes from elsewhere."""

import re
from pathlib import Path

import pytest

import sanderling.portal

FOLDER = Path(sanderling.portal.__file__).parent
CSS = (FOLDER / "static" / "portal.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root \{(.*?)\n\s*\}", CSS, re.DOTALL)
)
GROUNDS = ("sand", "surface", "code", "sand-deep")
PAIRS = [
    *[(text, ground) for ground in GROUNDS for text in ("ink", "ink-soft", "sea")],
    *[(tone, f"{tone}-wash") for tone in ("good", "bad", "warn", "calm", "sea")],
    *[("ink", f"{tone}-wash") for tone in ("good", "bad", "warn", "sea")],
    ("on-sea", "sea"),
    ("on-sea", "sea-deep"),
    ("bad", "surface"),
    ("bad", "bad-wash"),
]


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("text", "ground"), PAIRS)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_keeps_contrast_aa(colours: dict[str, str], text: str, ground: str) -> None:
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_the_edges_of_what_is_filled_in_and_the_focus_can_be_seen(colours: dict[str, str]) -> None:
    for ground in ("surface", "sand"):
        assert contrast(colours["line-strong"], colours[ground]) >= 3
        assert contrast(colours["sea"], colours[ground]) >= 3


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    for file in [*FOLDER.glob("templates/*"), *FOLDER.glob("static/*")]:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, file
        assert "https:" not in text, file
        if file.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|\|\s*safe", text), file
