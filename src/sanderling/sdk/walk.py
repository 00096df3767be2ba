"""The files of a folder that is to be sent or put into an image, each with its path there.

- Links are followed as long as they stay in the folder: what they lead to outside is not what was named.
- Loops, dangling links, and what is no file or folder (pipes, sockets, devices) are refused by name.
- The order is by name, whatever the file system says.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from sanderling.errors import Invalid, NotFound
from sanderling.sdk.hints import hinted

MAX_DEPTH = 200
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def walk_files(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of *path* (a file or a folder) and its path, which begins with the folder's own name.

    Raises:
        NotFound: *path* is not there.
        Invalid: Something in it is no file, leads outside or in a circle, or cannot be read; or it holds no file.
    """
    whole = Path(os.path.normpath(path.absolute()))
    if whole.is_file():
        yield whole, whole.name
        return
    if not whole.is_dir():
        if whole.exists() or whole.is_symlink():
            raise Invalid(f"{whole} is {_special(whole)}, neither a file nor a folder")
        raise hinted(NotFound(f"{whole} is not there"), "name the file or folder that training wrote")
    count = 0
    for found in _walk(whole, whole.name, Path(os.path.realpath(whole)), ()):
        count += 1
        yield found
    if not count:
        raise Invalid(f"{whole} holds no file")


def files_beside(path: Path, beside: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of *path* as `walk_files` does, with paths relative to the folder *beside* when they are in it.

    So a folder next to the scoring script keeps its place beside it in the image.

    Raises:
        NotFound: *path* is not there.
        Invalid: As `walk_files`.
    """
    whole, beside = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(beside.absolute()))
    prefix = whole.parent.relative_to(beside) if whole.is_relative_to(beside) and whole != beside else Path()
    for source, place in walk_files(whole):
        yield source, (prefix / place).as_posix()


def schema_place(path: Path, beside: Path) -> str:
    """Where a schema file goes, relative to the script's folder *beside*, in or below which it must be.

    Raises:
        Invalid: It is elsewhere.
    """
    whole, beside = Path(os.path.normpath(path.absolute())), Path(os.path.normpath(beside.absolute()))
    if not whole.is_relative_to(beside):
        raise hinted(
            Invalid(f"the schema file {path} is not in the folder of the script, nor below it"),
            f"a copy there: cp {path} {beside}",
        )
    return whole.relative_to(beside).as_posix()


def files_within(folder: Path, prefix: str, root: Path, skip: Callable[[str], bool]) -> Iterator[tuple[Path, str]]:
    """Yield each file of *folder* and its path, which begins with *prefix*, save those that *skip* says by their path.

    Links are followed as long as they stay in *root*, which is a real path.

    Raises:
        Invalid: As `walk_files`.
    """
    return _walk(folder, prefix, root, (), skip)


def _walk(
    folder: Path,
    prefix: str,
    root: Path,
    above: tuple[tuple[int, int], ...],
    skip: Callable[[str], bool] = lambda _: False,
) -> Iterator[tuple[Path, str]]:
    try:
        own = folder.stat()
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise Invalid(f"{folder} cannot be read: {error.strerror}") from error
    here = (own.st_dev, own.st_ino)
    if here in above or len(above) > MAX_DEPTH:
        raise hinted(
            Invalid(f"{folder} is a link to a folder that it is in: the folder has no end"), f"remove it: rm {folder}"
        )
    for name in names:
        source, place = folder / name, f"{prefix}/{name}" if prefix else name
        if skip(place) and not source.is_dir():  # a later pattern may take back what is in it
            continue
        mode = _mode(source, root)
        if stat.S_ISDIR(mode):
            yield from _walk(source, place, root, (*above, here), skip)
        elif stat.S_ISREG(mode):
            yield source, place
        else:
            raise hinted(
                Invalid(f"{source} is {_special(source)}, neither a file nor a folder"), "leave it out of the folder"
            )


def _mode(source: Path, root: Path) -> int:
    """The kind of *source*, or of what it links to, which is below *root*."""
    try:
        mode = source.lstat().st_mode
        if not stat.S_ISLNK(mode):
            return mode
        target = Path(os.path.realpath(source, strict=True))
        mode = target.stat().st_mode
    except FileNotFoundError as error:
        raise hinted(Invalid(f"{source} is a link to nothing"), f"remove it: rm {source}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise hinted(Invalid(f"{source} is a link that leads to itself"), f"remove it: rm {source}") from error
        raise Invalid(f"{source} cannot be read: {error.strerror}") from error
    if not target.is_relative_to(root):
        raise hinted(
            Invalid(f"{source} is a link that leads out of {root}, to {target}"),
            f"a copy without links: cp -rL {root} {root.name}-whole",
        )
    return mode


def _special(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a link that leads to itself" if error.errno == errno.ELOOP else "a link to nothing"
    return next((text for is_one, text in _SPECIAL if is_one(mode)), "something else")
