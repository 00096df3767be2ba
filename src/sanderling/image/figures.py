"""Sizes and counts as people read them in a build's log."""


def size_text(size_bytes: int) -> str:
    """Bytes with a decimal unit: 812 B, 1.4 kB, 23.0 MB."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = float(size_bytes), ""
    for name in ("kB", "MB", "GB", "TB"):
        value, unit = value / 1000, name
        if value < 999.95:
            break
    return f"{value:.1f} {unit}"


def count_text(count: int, noun: str) -> str:
    """A count and its noun, which takes an s: 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
