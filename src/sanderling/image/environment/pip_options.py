"""The options of pip that an environment may set: those of indexes, and none that builds or runs something.

A URL of an index may hold ``${NAME}`` in place of user and password. Only variables whose
names begin with SANDERLING_INDEX_ are put in: a file that somebody sends must not be able to
carry other variables of this machine to an index of its own.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from sanderling.image.environment.environment import Place
from sanderling.image.events import without_credentials

VARIABLE_PREFIX = "SANDERLING_INDEX_"
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_URL_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--pypi-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_FLAGS = frozenset({"--pre", "--no-index"})
_WITHOUT_EFFECT = {
    "--prefer-binary": 0,
    "--no-cache-dir": 0,
    "--trusted-host": 1,
    "--only-binary": 1,
    "--use-feature": 1,
}
_FILES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_WAYS_OUT = {
    "-e": "build a wheel of it (pip wheel .) and name that by its path",
    "--editable": "build a wheel of it (pip wheel .) and name that by its path",
    "--no-binary": "images are made of wheels only, sources are not built; leave it out",
    "--no-deps": "packages come with what they need; leave it out",
}


def split_options(text: str, place: Place) -> Iterator[tuple[str, str]]:
    """The options on one line, each with its value ("" for a flag), under one name each.

    Besides those of indexes, these come: "-r" and "-c" with a path, "--require-hashes", and
    "note" with a sentence for the log. Raises EnvironmentInvalid for what cannot be used.
    """
    try:
        words = shlex.split(text.replace("\\", "/"))
    except ValueError as e:
        raise place.refuse(f"an option of pip cannot be read: {e}") from e
    while words:
        word, equals, value = words.pop(0).partition("=")
        if not word.startswith("--") and len(word) > 2 and word[:2] in _URL_OPTIONS | _FILES:
            word, equals, value = word[:2], "=", word[2:] + equals + value
        if word in _FLAGS or word == "--require-hashes":
            yield word, ""
            continue
        takes_value = word in _URL_OPTIONS or word in _FILES or bool(_WITHOUT_EFFECT.get(word))
        if takes_value and not equals:
            if not words:
                raise place.refuse(f"pip's option '{word}' wants a value")
            value = words.pop(0)
        if word in _URL_OPTIONS:
            yield _URL_OPTIONS[word], value
        elif word in _FILES:
            yield _FILES[word], value
        elif word in _WITHOUT_EFFECT or (word == "--no-binary" and value == ":none:"):
            yield "note", f"{word}: has no effect here and is left out"
        else:
            way_out = _WAYS_OUT.get(word, "known are --index-url, --extra-index-url, --find-links, --no-index, --pre")
            raise place.refuse(f"pip's option '{word}' cannot be used in an image; {way_out}")


def index_url(option: str, text: str, place: Place, variables: Mapping[str, str]) -> str:
    """The URL *text* of an index, its variables put in. Raises EnvironmentInvalid."""
    url = _with_variables(option, text, place, variables)
    try:
        parts = urlsplit(url)
        usable = bool(parts.path if parts.scheme == "file" else parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", url):
        way_out = "; name the wheels of a folder by their paths, one on each line" if option == "--find-links" else ""
        raise place.refuse(f"{option} {without_credentials(text)}: this is no URL (https://...){way_out}")
    return url


def refuse_variables(text: str, place: Place) -> None:
    """Refuse ``${NAME}`` outside of an index: it would carry the build machine's variables into the image's making."""
    if match := _VARIABLE.search(text):
        raise place.refuse(f"{match[0]}: variables are put into the URLs of indexes only; write what is meant")


def _with_variables(option: str, text: str, place: Place, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not name.startswith(VARIABLE_PREFIX):
            raise place.refuse(f"{option}: {match[0]} is not put in; call the variable {VARIABLE_PREFIX}{name}")
        if name not in variables:
            raise place.refuse(f"{option}: the variable {name} is not set on the machine that builds the image")
        return quote(variables[name], safe="%")

    head, separator, tail = text.rpartition("@")
    refuse_variables(tail, place)
    return _VARIABLE.sub(value, head) + separator + tail
