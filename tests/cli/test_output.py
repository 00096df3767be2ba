from datetime import UTC, datetime, timedelta

import pytest

from sanderling.cli.output import Output, age_text, count_text, pairs_of, size_text, wrapped
from sanderling.errors import Invalid

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (48_200_000, "48.2 MB")],
)
def test_sizes_are_for_people(size: int | None, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (12, "12 s ago"), (200, "3 min ago"), (7200, "2 h ago"), (864_000, "2026-04-21 12:00")],
)
def test_ages_are_for_people(seconds: int, text: str) -> None:
    assert age_text(NOW - timedelta(seconds=seconds), NOW) == text


def test_what_never_was_is_never() -> None:
    assert age_text(None) == "never"


def test_prose_is_wrapped_between_words_and_what_follows_is_indented() -> None:
    text = "    model digits:1: " + "scikit-learn==1.9.1, " * 4
    assert wrapped(text, None) == text
    lines = wrapped(text, 40).splitlines()
    assert lines[0] == "    model digits:1: scikit-learn==1.9.1,"
    assert all(line.startswith("        scikit-learn==1.9.1") for line in lines[1:])
    assert max(map(len, lines)) <= 40


def test_the_name_of_an_image_is_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).step("Copying oci:o2:1 to oci:cat:1")
    Output(as_json=False).line("oci:cat:1")
    assert capsys.readouterr().out == "--> Copying oci:o2:1 to oci:cat:1\noci:cat:1\n"


def test_a_digest_longer_than_the_window_stays_whole() -> None:
    digest = f"sha256:{'a' * 64}"
    assert digest in wrapped(f"--> assemble: {digest}: 104.3 MB", 60).splitlines()[1]


def test_one_is_not_plural() -> None:
    assert (count_text(1, "file"), count_text(2, "file")) == ("1 file", "2 files")


def test_pairs_keep_what_follows_the_first_sign() -> None:
    assert pairs_of("tag", ["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(Invalid):
        pairs_of("tag", ["=b"])
