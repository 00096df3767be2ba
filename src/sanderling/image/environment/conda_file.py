"""Read an environment file (conda's ``environment.yml``) into what the image needs.

The rules of this file:

- The conda part may name ``python``, ``pip`` and packages that are one and the
  same on PyPI; the latter are taken from PyPI, and a note says so.
- Packages of azureml that do what our runtime does are dropped, with a note.
- Whatever cannot be kept is refused with the line, the name and the way out;
  nothing is ignored in silence.

Source: conda's environment file and match specifications, pip's requirements file format.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from sanderling.errors import Invalid
from sanderling.image.environment.conda_names import FROM_CONDA, REPLACED
from sanderling.image.environment.conda_part import CondaPart
from sanderling.image.events import without_credentials
from sanderling.image.interpreter import DEBIAN_12

MAX_FILE_BYTES = 1 << 20
BASE_PYTHON = DEBIAN_12.version
BASE_PYTHON_FULL = "3.11.2"

_INDEX_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_CONDA_SPEC = re.compile(r"^(?:(?P<channel>[^\s:]+)::)?(?P<name>[A-Za-z0-9._-]+)\s*(?P<version>[^\s\[]*.*)$")


class EnvironmentInvalid(Invalid):
    """The environment file cannot be used as it is; *line* counts from 1 (None: the whole file)."""

    def __init__(self, text: str, *, file: str, line: int | None = None, package: str | None = None) -> None:
        where = f"{file}, line {line}" if line else file
        super().__init__(f"{where}: {text}")
        self.file, self.line, self.package = file, line, package


@dataclass(frozen=True, slots=True)
class Environment:
    """What the image must hold: requirement lines for PyPI, index options, and notes for the log."""

    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    name: str | None = None
    notes: tuple[str, ...] = ()
    python: str | None = None  # the wanted minor version, "3.13"; None: any
    conda: CondaPart | None = None  # only when packages are wanted that conda alone has


@dataclass
class _Reader:
    file: str
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, text: str, node: yaml.Node | None = None, package: str | None = None) -> EnvironmentInvalid:
        line = node.start_mark.line + 1 if node is not None else None
        return EnvironmentInvalid(text, file=self.file, line=line, package=package)


def parse_environment(text: bytes, file: str = "the environment file") -> Environment:
    """Return the environment that *text* (YAML, UTF-8, at most 1 MiB) describes.

    Raises EnvironmentInvalid, with the line, for what is no YAML, no mapping, or
    asks for something that this base cannot give.
    """
    reader = _Reader(file)
    root = _compose(reader, text)
    if root is None:
        return Environment()
    if not isinstance(root, yaml.MappingNode):
        raise reader.refuse(
            "this is no conda environment: expected a mapping with 'name', 'channels' and 'dependencies'", root
        )
    name = None
    for key, value in root.value:
        word = key.value if isinstance(key, yaml.ScalarNode) else ""
        if word == "name":
            name = str(value.value)
        elif word == "dependencies":
            _read_dependencies(reader, value)
        elif word == "channels":
            continue
        elif word in ("prefix", "variables"):
            reader.notes.append(f"'{word}' of the environment file has no meaning in an image and is left out")
        else:
            raise reader.refuse(
                f"'{word}' is not a key of a conda environment; known are name, channels and dependencies", key
            )
    return Environment(tuple(reader.requirements), tuple(reader.options), name, tuple(reader.notes))


def _compose(reader: _Reader, text: bytes) -> yaml.Node | None:
    if len(text) > MAX_FILE_BYTES:
        raise reader.refuse(f"{len(text)} bytes are too many for an environment file; at most {MAX_FILE_BYTES}")
    try:
        return yaml.compose(text.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as e:
        raise reader.refuse(f"this is no text in UTF-8 (byte {e.start}): is it the right file?") from e
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else None
        raise EnvironmentInvalid(f"this is no YAML: {e.problem or e.context}", file=reader.file, line=line) from e
    except (yaml.YAMLError, RecursionError) as e:
        raise reader.refuse(f"this is no YAML: {' '.join(str(e).split())[:200]}") from e


def _items(reader: _Reader, node: yaml.Node, what: str) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
        return
    if not isinstance(node, yaml.SequenceNode):
        raise reader.refuse(f"{what} must be a list, each entry on a line that starts with '-'", node)
    yield from node.value


def _read_dependencies(reader: _Reader, node: yaml.Node) -> None:
    for item in _items(reader, node, "'dependencies'"):
        if isinstance(item, yaml.ScalarNode):
            _read_conda(reader, item)
        elif isinstance(item, yaml.MappingNode):
            for key, value in item.value:
                if key.value != "pip":
                    raise reader.refuse(f"'{key.value}' is not known here; only 'pip:' may hold a list", key)
                for line in _items(reader, value, "'pip'"):
                    _read_pip(reader, line)
        else:
            raise reader.refuse("a list inside the list of dependencies has no meaning", item)


def _read_conda(reader: _Reader, node: yaml.ScalarNode) -> None:
    text = node.value.strip()
    match = _CONDA_SPEC.match(text)
    if match is None or "[" in text or "|" in text:
        raise reader.refuse(f"'{text}' is a conda specification that only conda can solve; write name=version", node)
    name = match["name"].lower()
    if name == "pip":
        return
    specifier = _specifier(reader, node, match["version"])
    if name == "python":
        _check_python(reader, node, text, match["version"], specifier)
        return
    if canonicalize_name(name) in REPLACED:
        reader.notes.append(f"{name}: left out, sanderling_scoring takes its place")
        return
    if name not in FROM_CONDA:
        raise reader.refuse(
            f"the conda package '{name}' is not supported: conda packages other than python and pip are not "
            f"installed. If PyPI has it with wheels, move it to the 'pip:' section",
            node,
            package=name,
        )
    requirement = f"{FROM_CONDA[name]}{specifier}"
    reader.requirements.append(requirement)
    reader.notes.append(f"{text}: from the conda part, taken from PyPI as {requirement}")


def _specifier(reader: _Reader, node: yaml.ScalarNode, text: str) -> SpecifierSet:
    """Conda's version constraint in the words of PyPI: =1.2 and 1.2.* are any 1.2; a build string is dropped."""
    text = text.strip()
    exact = re.fullmatch(r"(?P<sign>={0,2})\s*(?P<version>\d[^\s=,|<>!~]*)(?:[\s=]+(?P<build>\S+))?", text)
    try:
        if exact is None:
            return SpecifierSet(text.replace(" ", ""))
        if exact["build"]:
            reader.notes.append(f"{node.value}: the build '{exact['build']}' is conda's own and is left out")
        version = exact["version"].removesuffix("*").removesuffix(".")
        is_prefix = exact["sign"] == "=" or exact["version"].endswith("*")
        return SpecifierSet(f"=={version}.*" if is_prefix else f"=={version}")
    except InvalidSpecifier as e:
        raise reader.refuse(f"'{node.value}': '{text}' is no version constraint", node) from e


def _check_python(reader: _Reader, node: yaml.ScalarNode, text: str, version: str, specifier: SpecifierSet) -> None:
    if specifier.contains(BASE_PYTHON_FULL):
        return
    if re.match(rf"^[\s=]*{re.escape(BASE_PYTHON)}(\.\d+)?(\.\*)?(=|\s|$)", version):
        reader.notes.append(f"{text}: the base has Python {BASE_PYTHON_FULL}, which is used")
        return
    raise reader.refuse(
        f"'{text}': the base (Debian 12) has Python {BASE_PYTHON} and no other; "
        f"write python={BASE_PYTHON}, or leave python out",
        node,
        package="python",
    )


def _read_pip(reader: _Reader, node: yaml.Node) -> None:
    if not isinstance(node, yaml.ScalarNode):
        raise reader.refuse("an entry of 'pip' must be one requirement, such as numpy==2.1.0", node)
    text = re.sub(r"(^|\s)#.*$", "", node.value).strip()
    if not text:
        return
    if text.startswith("-"):
        _read_option(reader, node, text)
        return
    if (text.endswith(".whl") and "@" not in text) or re.match(
        r"^(\.{0,2}/|[A-Za-z]:\\|git\+|hg\+|svn\+|bzr\+|\w+://)", text
    ):
        raise reader.refuse(
            f"'{without_credentials(text)}': a path, a URL or a repository cannot be built into an image; "
            "name a package of an index that has wheels",
            node,
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as e:
        raise reader.refuse(f"'{without_credentials(text)}' is no requirement: {str(e).splitlines()[0]}", node) from e
    if requirement.url is not None and not requirement.url.startswith("https://"):
        raise reader.refuse(f"'{requirement.name}': only https URLs of wheels can be used", node, requirement.name)
    if canonicalize_name(requirement.name) in REPLACED:
        reader.notes.append(f"{requirement.name}: left out, sanderling_scoring takes its place")
        return
    reader.requirements.append(text)


def _read_option(reader: _Reader, node: yaml.ScalarNode, text: str) -> None:
    word, _, value = text.replace("=", " ", 1).partition(" ")
    if word in _INDEX_OPTIONS and value.strip():
        reader.options.append(f"{_INDEX_OPTIONS[word]} {value.strip()}")
    elif word == "--pre":
        reader.options.append("--pre")
    elif word in ("--trusted-host", "--only-binary", "--prefer-binary", "--no-cache-dir"):
        reader.notes.append(f"{word}: has no effect here and is left out")
    else:
        raise reader.refuse(
            f"pip's option '{word}' cannot be used in an image; known are --index-url, --extra-index-url, "
            "--find-links and --pre",
            node,
        )
