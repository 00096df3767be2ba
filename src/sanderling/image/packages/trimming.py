"""What of a package is left out of images: the tests of three large packages, a tenth of a scikit-learn image.

A wheel is put into an image as it is, with these exceptions. They are named, because nobody can tell from
outside whether the folder `tests` of a package is needed: some packages import theirs. Of these it is known that
nothing else of them imports it: numpy and scipy mark it as a part of its own when they are built (the install tag
`tests` of Meson), and distributions leave it out; in scikit-learn no module outside of such folders imports from one.
"""

import re

TESTS_APART = frozenset({"numpy", "scipy", "scikit-learn"})
_TESTS = re.compile(r"(?:[^/]+/)+tests/")


def project_of(wheel: str) -> str:
    """The normalised name of the project in a wheel's file name."""
    return re.sub(r"[-_.]+", "-", wheel.partition("-")[0]).lower()


def is_left_out(project: str, path: str) -> bool:
    """Whether the file at *path* in the wheel of *project* is left out of images."""
    return project in TESTS_APART and _TESTS.match(path) is not None


def trim_record(project: str, record: bytes) -> bytes:
    """*record*, a wheel's RECORD, without the files that are left out."""
    if project not in TESTS_APART:
        return record
    lines = record.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    kept = "".join(line for line in lines if not is_left_out(project, line.lstrip('"')))
    return kept.encode("utf-8", "surrogateescape")
