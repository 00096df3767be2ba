import pytest

from sanderling.image.figures import count_text, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1_400, "1.4 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (23_000_000, "23.0 MB"),
    ],
)
def test_sizes_have_the_unit_that_shows_something(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_one_is_not_plural() -> None:
    assert count_text(1, "file") == "1 file"
    assert count_text(0, "file") == "0 files"
    assert count_text(3, "wheel") == "3 wheels"
