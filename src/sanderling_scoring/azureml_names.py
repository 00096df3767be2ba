"""The azureml names that scoring scripts import, made importable in this process.

    azureml.core                 Model, VERSION, __version__
    azureml.core.model           Model, MODELS_DIR
    azureml.exceptions           AzureMLException and what a lookup raises
    azureml.contrib.services.*   AMLRequest, AMLResponse, rawhttp

These names are always ours, because the lookup has to find what our builder put
into the image. Every other azureml module comes from the environment, if it is
there.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

MODELS_DIR = "azureml-models"
_VERSION = "1.61.0"  # the last azureml-core whose lookup this one follows


class AzureMLException(Exception):
    """The base of what azureml raises."""

    def __init__(self, exception_message: str = "", inner_exception: Optional[BaseException] = None) -> None:
        super().__init__(exception_message)
        self.message = exception_message
        self.inner_exception = inner_exception


class UserErrorException(AzureMLException):
    """What was asked for cannot be."""


class WebserviceException(AzureMLException):
    """A model or service is not as asked for."""


class ModelNotFoundException(AzureMLException):
    """No model of that name and version is in the image."""


class ModelPathNotFoundException(AzureMLException):
    """A model's folder does not hold exactly one file or folder."""


class Model:
    """The part of azureml.core.Model that works inside an image: the lookup of a path."""

    @staticmethod
    def get_model_path(model_name: str, version: Optional[int] = None, _workspace: Any = None) -> str:
        """Return the path of a registered model's file or folder.

        Looks in `azureml-models/<name>/<version>/` of the app's root, then for
        `./<name>`. Without a version the highest one is taken. A miss raises
        ModelNotFoundException, whose message lists what is there.
        """
        if version is not None and not isinstance(version, int):
            raise UserErrorException(f"version must be an int, not {type(version).__name__}")
        base = _models_folder()
        folder = os.path.join(base, model_name)
        if not os.path.isdir(folder) or not _is_plain(model_name):
            return _find_in_root(model_name, base)
        versions = sorted(int(entry) for entry in os.listdir(folder) if entry.isdecimal())
        chosen = version if version is not None else (versions[-1] if versions else None)
        if chosen is None or chosen not in versions:
            wanted = f"version {version} of model {model_name}" if version is not None else f"model {model_name}"
            raise ModelNotFoundException(f"{wanted} not found in {folder}. {_describe(base)}")
        path = os.path.join(folder, str(chosen))
        entries = os.listdir(path)
        if len(entries) != 1:
            raise ModelPathNotFoundException(
                f"Dir {path} can contain only 1 file or folder. Found {len(entries)}: {', '.join(sorted(entries)[:20])}"
            )
        return os.path.join(path, entries[0])


def _models_folder() -> str:
    return os.path.join(os.environ.get("AML_APP_ROOT", ""), MODELS_DIR)


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name


def _find_in_root(name: str, base: str) -> str:
    root = os.path.join(".", name)
    if name and os.path.exists(root):
        return root
    # The commonest slip: the file's name instead of the registered one. One match is meant.
    matches = [path for path in _stored_paths(base) if os.path.basename(path) == name]
    if len(matches) == 1:
        sys.stderr.write(f"warning: no model is registered as {name!r}; taking the file of that name: {matches[0]}\n")
        return matches[0]
    raise ModelNotFoundException(f"Model not found in cache or in root at {root}. {_describe(base)}")


def _stored_paths(base: str) -> list[str]:
    paths: list[str] = []
    for name in _entries(base):
        for version in _entries(os.path.join(base, name)):
            folder = os.path.join(base, name, version)
            paths.extend(os.path.join(folder, entry) for entry in _entries(folder))
    return paths


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _describe(base: str) -> str:
    paths = _stored_paths(base)
    if not paths:
        return f"There are no models in {os.path.abspath(base)}."
    shown = ", ".join(os.path.relpath(path, base) for path in paths[:20])
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return f"Models in {os.path.abspath(base)} (name/version/file): {shown}{more}."


def install() -> None:
    """Make the names importable; call once, before the script is loaded."""
    from sanderling_scoring.aml_http import AMLRequest, AMLResponse, rawhttp

    # AML_APP_ROOT is read at each lookup; this name is for scripts that print it.
    exceptions = _module(
        "azureml.exceptions",
        AzureMLException=AzureMLException,
        UserErrorException=UserErrorException,
        WebserviceException=WebserviceException,
        ModelNotFoundException=ModelNotFoundException,
        ModelPathNotFoundException=ModelPathNotFoundException,
    )
    model = _module("azureml.core.model", Model=Model, MODELS_DIR=_models_folder())
    core = _module("azureml.core", Model=Model, model=model, VERSION=_VERSION, __version__=_VERSION)
    request = _module("azureml.contrib.services.aml_request", AMLRequest=AMLRequest, rawhttp=rawhttp)
    response = _module("azureml.contrib.services.aml_response", AMLResponse=AMLResponse)
    services = _module("azureml.contrib.services", aml_request=request, aml_response=response)
    contrib = _module("azureml.contrib", services=services)
    _module("azureml", core=core, contrib=contrib, exceptions=exceptions)


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name, "Provided by sanderling_scoring for scoring scripts.")
    module.__dict__.update(names)
    # A package in the eyes of the import system. Its path is every folder of that
    # name in the environment, so that other azureml packages still import.
    tail = os.path.join(*name.split("."))
    module.__path__ = [path for path in (os.path.join(entry, tail) for entry in sys.path) if os.path.isdir(path)]
    sys.modules[name] = module
    return module
