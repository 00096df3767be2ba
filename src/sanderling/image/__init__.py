"""Images without a daemon, without root, and without running what is the user's.

A `Recipe` becomes an image: a base from signed Debian packages, wheels that uv
chose for the target platform, the scoring server, the models, the script. The
same inputs give the same bytes, on any host, for any supported platform.

- `ImageBuilds` is the service with a queue, records and logs.
- ``python -m sanderling.image SPEC.json`` is one build (see `sanderling.image.service.worker`).
- `check_script` and `parse_environment` look at the user's files without running them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sanderling.image.build import BuildSettings, build
from sanderling.image.check import check
from sanderling.image.environment.conda_file import Environment, EnvironmentInvalid, parse_environment
from sanderling.image.events import Event, Log
from sanderling.image.gate.box import NoSandbox
from sanderling.image.gate.gate import GateSettings
from sanderling.image.gate.limits import Limits
from sanderling.image.gate.verdict import GateFailed
from sanderling.image.layers.sizes import size_report
from sanderling.image.push_target import PushTarget
from sanderling.image.recipe import ModelFiles, Recipe, SourceFile
from sanderling.image.script import ScriptInvalid, check_script

if TYPE_CHECKING:
    from sanderling.image.service.build_records import ImageBuild, ImageNotFound, WrongState
    from sanderling.image.service.builds import BuildLogPage, ImageBuilds
    from sanderling.image.supply_chain.signing_keys import KeyInfo, SigningKeys

# The service needs SQL; a worker imports this package too, needs none, and would wait half a second for it.
_OF_THE_SERVICE = {
    "BuildLogPage": "service.builds",
    "ImageBuild": "service.build_records",
    "ImageBuilds": "service.builds",
    "ImageNotFound": "service.build_records",
    "KeyInfo": "supply_chain.signing_keys",
    "SigningKeys": "supply_chain.signing_keys",
    "WrongState": "service.build_records",
}


def __getattr__(name: str) -> Any:
    """Import what belongs to the service when it is asked for (PEP 562)."""
    if name in _OF_THE_SERVICE:
        return getattr(import_module(f"sanderling.image.{_OF_THE_SERVICE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BuildLogPage",
    "BuildSettings",
    "Environment",
    "EnvironmentInvalid",
    "Event",
    "GateFailed",
    "GateSettings",
    "ImageBuild",
    "ImageBuilds",
    "ImageNotFound",
    "KeyInfo",
    "Limits",
    "Log",
    "ModelFiles",
    "NoSandbox",
    "PushTarget",
    "Recipe",
    "ScriptInvalid",
    "SigningKeys",
    "SourceFile",
    "WrongState",
    "build",
    "check",
    "check_script",
    "parse_environment",
    "size_report",
]
