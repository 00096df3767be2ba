"""Read an environment file (conda's ``environment.yml``) into what the image needs.

The rules of this file:

- A conda part of ``python``, ``pip`` and packages that are one and the same on
  PyPI needs no conda: those are taken from PyPI, and a note says so.
- When anything else is in it, all of it is for conda.
- Packages of azureml that do what our runtime does are dropped, with a note.
- Whatever cannot be kept is refused with the line, the name and the way out;
  nothing is ignored in silence.

Source: conda's environment file and match specifications, pip's requirements file format.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from packaging.utils import canonicalize_name

from sanderling.image.environment.conda_names import FROM_CONDA, REPLACED
from sanderling.image.environment.conda_part import CondaPart
from sanderling.image.environment.environment import Environment, EnvironmentInvalid, Place, PythonWish
from sanderling.image.environment.given_files import GivenFiles
from sanderling.image.environment.match_spec import MatchSpec, MatchSpecInvalid, parse_match_spec
from sanderling.image.environment.pip_lines import PipLines, decode
from sanderling.image.environment.requirements_file import environment_of
from sanderling.image.events import without_credentials

__all__ = ["Environment", "EnvironmentInvalid", "parse_environment"]

# Their packages are, for our purpose, those of PyPI.
_PUBLIC_CHANNELS = frozenset({"anaconda", "conda-forge", "defaults", "main", "pkgs/main"})
_NO_CHANNELS = frozenset({"defaults", "nodefaults"})
_SELECTOR = re.compile(r"#\s*\[\s*(?:not\s+)?(?:win|osx|linux|unix|arm|aarch|x86|ppc|py\d|py\s*[<>=!])[^\]]*\]")
MINORS = ("2.7", *(f"3.{minor}" for minor in range(31)))


@dataclass
class _Reader:
    file: str
    pip: PipLines
    lines: list[str]
    specs: list[tuple[MatchSpec, Place]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    name: str | None = None

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1)


def parse_environment(
    content: bytes,
    file: str = "the environment file",
    given: Mapping[str, Path] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Environment:
    """Return the environment that *content* (YAML, at most 1 MiB) describes.

    *given* are the files that it may name by path, *variables* those for the
    URLs of indexes. Raises EnvironmentInvalid, with the line, for what is no
    YAML, no mapping, or asks for something that no image can have.
    """
    text = decode(content, Place(file))
    root = _compose(text, file)
    if root is None:
        return Environment()
    reader = _Reader(file, PipLines(GivenFiles(given), variables or {}), text.splitlines())
    if not isinstance(root, yaml.MappingNode):
        raise reader.place(root).refuse(
            "this is no conda environment: expected a mapping with 'name', 'channels' and 'dependencies'"
        )
    for key, value in root.value:
        _read_key(reader, key, value)
    return _result(reader)


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = Place(file, mark.line + 1 if mark else None)
        raise place.refuse(f"this is no YAML: {e.problem or e.context}") from e
    except (yaml.YAMLError, RecursionError) as e:
        raise Place(file).refuse(f"this is no YAML: {' '.join(str(e).split())[:200]}") from e


def _read_key(reader: _Reader, key: yaml.Node, value: yaml.Node) -> None:
    match key.value if isinstance(key, yaml.ScalarNode) else "":
        case "name":
            reader.name = str(value.value)
        case "dependencies":
            for item in _items(reader, value, "'dependencies'"):
                _read_dependency(reader, item)
        case "channels":
            for item in _items(reader, value, "'channels'"):
                _read_channel(reader, item)
        case "prefix" | "variables" as word:
            reader.notes.append(f"'{word}' of the environment file has no meaning in an image and is left out")
        case "platforms":
            reader.notes.append("'platforms' of the environment file is left out: a build says its own platforms")
        case word:
            raise reader.place(key).refuse(
                f"'{word}' is not a key of a conda environment; known are name, channels and dependencies"
            )


def _items(reader: _Reader, node: yaml.Node, what: str) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
        return
    if not isinstance(node, yaml.SequenceNode):
        raise reader.place(node).refuse(f"{what} must be a list, each entry on a line that starts with '-'")
    yield from node.value


def _read_channel(reader: _Reader, node: yaml.Node) -> None:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        raise reader.place(node).refuse("a channel is a name (conda-forge) or a URL (https://..., file://...)")
    channel = node.value.strip()
    if re.match(r"^(?:\.|/|~|[A-Za-z]:[/\\])", channel) or re.search(r"\s", channel):
        shown = without_credentials(channel)
        raise reader.place(node).refuse(f"the channel '{shown}' is a path; write it as a URL (file:///...)")
    if "://" in channel and not channel.startswith(("https://", "http://", "file:///")):
        raise reader.place(node).refuse(f"the channel '{without_credentials(channel)}' is neither https nor file:///")
    if channel not in _NO_CHANNELS and channel not in reader.channels:
        reader.channels.append(channel)


def _read_dependency(reader: _Reader, item: yaml.Node) -> None:
    place = reader.place(item)
    if isinstance(item, yaml.SequenceNode):
        raise place.refuse("a list inside the list of dependencies has no meaning")
    if isinstance(item, yaml.ScalarNode):
        _refuse_selector(reader, item)
        _read_spec(reader, item.value, place)
        return
    for key, value in item.value:
        if key.value != "pip":
            way_out = "only 'pip:' may hold a list"
            if str(key.value).startswith("sel("):
                way_out = "an image has one environment; write a file for this platform alone"
            raise reader.place(key).refuse(f"'{key.value}' is not known here; {way_out}")
        for line in _items(reader, value, "'pip'"):
            if not isinstance(line, yaml.ScalarNode):
                raise reader.place(line).refuse("an entry of 'pip' must be one requirement, such as numpy==2.1.0")
            _refuse_selector(reader, line)
            reader.pip.read_line(line.value, reader.place(line))


def _refuse_selector(reader: _Reader, node: yaml.Node) -> None:
    """conda-build's selectors are comments here, for conda too: what looks conditional would not be."""
    if match := _SELECTOR.search(reader.lines[node.start_mark.line]):
        raise reader.place(node).refuse(
            f"'{match[0]}': selectors are conda-build's and mean nothing in an environment file; "
            "write a file for this platform alone"
        )


def _read_spec(reader: _Reader, text: str, place: Place) -> None:
    text = re.sub(r"\s#.*$", "", text).strip()
    try:
        spec = parse_match_spec(text)
    except MatchSpecInvalid as e:
        raise place.refuse(without_credentials(str(e))) from e
    if canonicalize_name(spec.name) in REPLACED:
        reader.notes.append(f"{spec.name}: left out, sanderling_scoring takes its place")
        return
    reader.specs.append((spec, place))
    reader.pip.origins.setdefault(canonicalize_name(spec.name), place)


def _result(reader: _Reader) -> Environment:
    wish = _python_wish(reader)
    environment = replace(
        environment_of(reader.pip),
        name=reader.name,
        python=wish.minors[0] if wish and len(wish.minors) == 1 else None,
        python_wish=wish,
    )
    culprits = [(spec, place) for spec, place in reader.specs if not _is_on_pypi(spec)]
    if culprits:
        specs = tuple(spec.text for spec, _ in reader.specs)
        part = CondaPart(tuple(reader.channels) or ("conda-forge",), specs)
        return replace(
            environment, conda=part, conda_culprit=(culprits[0][0].name, culprits[0][1]), notes=_notes(reader)
        )
    taken = [_from_pypi(reader, spec) for spec, _ in reader.specs if spec.name not in ("python", "pip")]
    return replace(environment, requirements=(*taken, *environment.requirements), notes=_notes(reader))


def _notes(reader: _Reader) -> tuple[str, ...]:
    return (*reader.notes, *reader.pip.notes)


def _is_on_pypi(spec: MatchSpec) -> bool:
    """Whether PyPI's package will do for *spec*."""
    if spec.others or (spec.channel is not None and spec.channel not in _PUBLIC_CHANNELS):
        return False
    if spec.name in ("python", "pip"):
        return True
    alternatives = spec.specifiers()
    return spec.name in FROM_CONDA and alternatives is not None and len(alternatives) == 1


def _from_pypi(reader: _Reader, spec: MatchSpec) -> str:
    if spec.build:
        reader.notes.append(f"{spec.text}: the build '{spec.build}' is conda's own and is left out")
    (specifier,) = spec.specifiers() or ()
    requirement = f"{FROM_CONDA[spec.name]}{specifier}"
    reader.notes.append(f"{spec.text}: from the conda part, taken from PyPI as {requirement}")
    return requirement


def _python_wish(reader: _Reader) -> PythonWish | None:
    """The versions of Python that every line about it allows; patch levels are the base's matter."""
    wishes = [(spec, place) for spec, place in reader.specs if spec.name == "python"]
    if not wishes:
        return None
    minors = list(MINORS)
    for spec, place in wishes:
        alternatives = spec.specifiers()
        if alternatives is None:
            raise place.refuse(f"'{spec.text}': this cannot be compared with a version; write python=3.11", "python")
        minors = [
            minor
            for minor in minors
            if any(each.contains(f"{minor}.{patch}") for each in alternatives for patch in range(40))
        ]
        if re.search(r"\d+\.\d+\.\d", spec.version):
            reader.notes.append(f"{spec.text}: the last patch level that the base has is used")
    text = " and ".join(spec.text for spec, _ in wishes)
    if not minors:
        raise wishes[-1][1].refuse(f"'{text}': there is no such version of Python; write python=3.11", "python")
    return PythonWish(text, tuple(minors), wishes[0][1])
