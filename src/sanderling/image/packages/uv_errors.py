"""Say what uv found wrong in our words: which package, where it is named, and the way out."""

import re
from collections.abc import Mapping, Sequence

from packaging.utils import canonicalize_name

from sanderling.errors import Denied, Invalid, SanderlingError, Unavailable
from sanderling.image.environment.environment import Environment
from sanderling.image.events import without_credentials
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.index_page import Offer
from sanderling.oci import Platform

_NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)"
_SPEC = r"(?P<spec>[<>=!~][^\s,]*(?:,[<>=!~][^\s,]*)*)?"
_MAX_NAMED = 8
_BUILD_IT = "build a wheel of it for the platform and name that by its path, or give an index that has one"
# What people import is not always what the package is called.
_IMPORT_NAMES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "pil": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


class ResolutionFailed(Invalid):
    """No set of wheels satisfies the environment; *package* is the culprit where uv named one."""

    def __init__(self, text: str, *, package: str | None = None) -> None:
        super().__init__(text)
        self.package = package


class NoWheels(ResolutionFailed):
    """The packages *packages* have no wheel for the platform and Python of the image."""

    def __init__(self, text: str, packages: Sequence[str]) -> None:
        super().__init__(text, package=packages[0])
        self.packages = tuple(packages)


def explain(said: str, platform: Platform, python: Interpreter, environment: Environment) -> SanderlingError:
    """The error to raise for what uv *said*."""
    lines = [line for line in without_credentials(said).splitlines() if not re.match(r"(?:DEBUG|TRACE|INFO) ", line)]
    text = " ".join(re.sub(r"(?m)^\s*(error|cause|warning):", " ", "\n".join(lines)).split())
    reason, _, hint = text.partition(" hint: ")
    reason = re.sub(r"\{[^}]*\}", "", reason)
    reason = re.sub(r"^(?:Resolved .*?ms)?\s*No solution found when resolving dependencies", "", reason).strip(" :")
    if re.search(r"\((?:401|403)\b", text):
        place = re.search(r"https?://[^\s`'\")]+", text)
        return Denied(
            f"{place[0] if place else 'a package index'} asks for a user and password, or refuses those it got; "
            f"put them into UV_INDEX_URL as https://user:password@... on the machine that builds the image"
        )
    if re.search(r"Failed to fetch|Request failed|error sending request|dns error|timed out", text, re.IGNORECASE):
        place = re.search(r"https?://[^\s`'\")]+", text)
        where = place[0] if place else "its address"
        return Unavailable(f"the package index did not answer at {where}: {_short(text, 200)}")
    return _of_the_packages(reason, hint, platform, python, environment)


def _of_the_packages(
    reason: str, hint: str, platform: Platform, python: Interpreter, environment: Environment
) -> ResolutionFailed:
    missing = re.search(rf"{_NAME} was not found in the (?:package registry|provided package locations)", reason)
    if missing:
        name = missing["name"]
        right = _IMPORT_NAMES.get(canonicalize_name(name))
        question = f"The package is called {right}" if right else "Is the name right?"
        return ResolutionFailed(
            f"package '{name}'{_at(name, environment)}: no index has it. {question} For a private package, name its "
            f"index with '--extra-index-url' in the pip section. uv says: {_short(reason)}",
            package=name,
        )
    yanked = re.search(rf"{_NAME}==(?P<version>\S+) (?:was|is) yanked(?: \(reason: (?P<why>[^)]*)\))?", reason)
    if yanked:
        name, version, why = yanked["name"], yanked["version"], f": {yanked['why']}" if yanked["why"] else ""
        return ResolutionFailed(
            f"package '{name}'{_at(name, environment)}: version {version} was withdrawn from its index (yanked){why}, "
            f"and no other fits; loosen its pin, or pin it to use it all the same ({name}=={version})",
            package=name,
        )
    wheelless = find_wheelless(reason)
    if wheelless is not None:
        return no_wheels([wheelless], {}, hint, platform, python, environment)
    needs = re.search(rf"does not satisfy Python(?P<python>\S+) and {_NAME}==(?P<version>\S+) depends on", reason)
    if needs:
        name = needs["name"]
        return ResolutionFailed(
            f"package '{name}'{_at(name, environment)}: version {needs['version']} needs Python {needs['python']}, and "
            f"the image has {python.version}. Choose another version of it, or another Python (python=... in the file)",
            package=name,
        )
    absent = re.search(rf"there (?:is|are) no versions? of {_NAME}{_SPEC}(?: and|,|$)", reason)
    if absent and absent["spec"]:
        name = absent["name"]
        return ResolutionFailed(
            f"package '{name}'{_at(name, environment)}: no version satisfies {name}{absent['spec']}; loosen or mend "
            f"the pin. uv says: {_short(f'{reason} {hint}'.strip())}",
            package=name,
        )
    return _of_a_conflict(reason, hint, environment)


def find_wheelless(reason: str) -> str | None:
    """The package that uv's *reason* rests on for having no wheel; None when it rests on something else."""
    for match in re.finditer(r"\s(?:has|have) no (?:usable )?wheels", reason):
        before = reason[: match.start()].split()
        found = re.match(rf"^{_NAME}{_SPEC}$", before[-1] if before else "")
        if found is None:
            continue
        name = found["name"]
        # In a conflict, uv also says of versions that nobody asked for that they have no wheels.
        decides = re.search(rf"all versions of {re.escape(name)} (?:cannot be used|have no)", reason)
        if decides or " incompatible" not in reason:
            return name
    return None


def no_wheels(
    packages: Sequence[str],
    offers: Mapping[str, Offer],
    hint: str,
    platform: Platform,
    python: Interpreter,
    environment: Environment,
) -> NoWheels:
    """The error for *packages* without a wheel; *offers* is what their indexes have of them."""
    target = f"{platform} with Python {python.version}"
    told = [_of_one(name, offers.get(name), hint if len(packages) == 1 else "", python) for name in packages]
    end = "sources are not built"
    if len(packages) == 1:
        name = packages[0]
        text = f"package '{name}'{_at(name, environment)}: there is no wheel for {target}; {told[0]}; {end}"
    else:
        listed = "; ".join(
            f"{name}{_at(name, environment)}: {words.removesuffix(f': {_BUILD_IT}')}"
            for name, words in zip(packages, told, strict=True)
        )
        # Said once, however many packages it is the way out for.
        way_out = f". Where no version has one, {_BUILD_IT}" if any(words.endswith(_BUILD_IT) for words in told) else ""
        text = f"{len(packages)} packages have no wheel for {target}; {end}: {listed}{way_out}"
    return NoWheels(text, packages)


def _of_one(name: str, offer: Offer | None, hint: str, python: Interpreter) -> str:
    """What can be done about one package."""
    right = _IMPORT_NAMES.get(canonicalize_name(name))
    if right:
        return f"the package is called {right}"
    tags = {(tag[0], int(tag[1:])) for tag in re.findall(r"`cp(\d\d+)", hint.partition("only found wheels")[2])}
    pythons = [f"{major}.{minor}" for major, minor in sorted(tags)]
    if offer is None:
        return (
            f"choose a version that has one, or give an index that has it ({_short(hint, 300)})"
            if hint
            else "no more is known"
        )
    # uv's hint is of whichever version it looked at last, and of all platforms.
    pythons = [version for version in pythons if version in offer.pythons]
    if offer.fitting:
        newest = ", ".join(str(version) for version in offer.fitting[: -_MAX_NAMED - 1 : -1])
        also = f", or another Python: that version has wheels for {', '.join(pythons)}" if pythons else ""
        return f"versions that have one: {newest}; pin one of them ({name}=={offer.fitting[-1]}){also}"
    if not offer.wheels:
        return (
            "its index has sources only: build a wheel of it (pip wheel) for the platform and name that by its path, "
            "or take another package"
        )
    pythons = pythons or list(offer.pythons)
    if pythons and python.version not in pythons:
        return f"its wheels are for Python {', '.join(pythons)}: choose one of these (python=... in the file)"
    return f"none of its versions (the newest is {offer.wheels[-1]}) has one: {_BUILD_IT}"


def _of_a_conflict(reason: str, hint: str, environment: Environment) -> ResolutionFailed:
    given = re.sub(r"we can conclude that you require \S+", "", reason)  # this follows from the others
    pins = sorted(set(re.findall(r"(?:you require|and) ([A-Za-z0-9][A-Za-z0-9._-]*[<>=!~][^\s]*[^\s,.])", given)))
    edges = re.findall(
        r"(?:all versions of )?(\S+) depends? on (?!Python)([A-Za-z0-9][A-Za-z0-9._-]*[<>=!~]\S*[^\s,.])", reason
    )
    required = re.findall(r"you require ([A-Za-z0-9][A-Za-z0-9._-]*)", reason)
    if not required or not (edges or pins):
        return ResolutionFailed(f"no set of packages satisfies the environment. uv says: {_short(reason or hint)}")
    told = [*pins, *dict.fromkeys(f"{user} needs {what}" for user, what in edges)]
    contested = [re.split(r"[<>=!~]", what)[0] for _, what in edges] or [re.split(r"[<>=!~]", pins[-1])[0]]
    name = contested[-1]
    return ResolutionFailed(
        f"the requirements contradict each other: {', '.join(told)}{_at(name, environment)}. "
        f"Loosen one of these pins. uv says: {_short(reason)}",
        package=name,
    )


def _at(name: str, environment: Environment) -> str:
    place = environment.place_of(canonicalize_name(name))
    return f" ({place})" if place is not None else ""


def _short(text: str, length: int = 800) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
