"""What conda-meta says of an installed package: conda, pixi and scanners of images read it.

A record is made of the package and its lock only: no time, no folder of this
machine. Source: conda's PrefixRecord.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sanderling.image.conda.lock import PREFIX, CondaPackage
from sanderling.image.layers.tree import Entry, file_entry

_KEPT = (
    "arch",
    "build",
    "build_number",
    "constrains",
    "depends",
    "license",
    "license_family",
    "name",
    "noarch",
    "platform",
    "python_site_packages_path",
    "timestamp",
    "track_features",
    "version",
)


def prefix_record(package: CondaPackage, index: Mapping[str, Any], paths: Iterable[str]) -> list[Entry]:
    """The record of *package*, which has *index* as its index.json and installs *paths* (from the root)."""
    below = f"{PREFIX}/"
    document = {key: index[key] for key in _KEPT if key in index} | {
        "channel": package.shown_channel,
        "extracted_package_dir": "",
        "files": [path.removeprefix(below) for path in paths],
        "fn": package.file_name,
        "link": {"source": "", "type": 1},
        "package_tarball_full_path": "",
        "requested_spec": "",
        "sha256": package.sha256,
        "size": package.size_bytes,
        "subdir": package.subdir,
        "url": "" if package.is_local else package.url,
    }
    name = f"{package.name}-{package.version}-{package.build}.json"
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    entries = [file_entry(f"{PREFIX}/conda-meta/{name}", text.encode(), source=package.file_name)]
    if package.name == "python":
        # Makes the folder an environment in conda's eyes.
        entries.append(file_entry(f"{PREFIX}/conda-meta/history", b""))
    return entries
