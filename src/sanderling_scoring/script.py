"""The user's scoring script: load it, start it, call it.

The forms of run(), as azureml's inference server has them:

    plain      run(x[, request_headers])   x is the body as text; GET gives the query as JSON
    schema     @input_schema(...)          the body is a JSON object by parameter name
    rawhttp    @rawhttp                    run(request) gets the request itself

Its texts for bad scripts are kept, because people search for them.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
import traceback

from sanderling_scoring import log
from sanderling_scoring.aml_http import AMLRequest, is_rawhttp
from sanderling_scoring.answers import INTERNAL_ERROR, JSON_TYPE, SCRIPT_ERROR, Answer, error, from_return_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from sanderling_scoring.http_parser import Request
    from sanderling_scoring.settings import Settings

MAX_LISTED = 200
PLAIN, SCHEMA, RAWHTTP = "plain", "schema", "rawhttp"


class UserScriptError(Exception):
    """The script cannot be served as it is; the message says why."""


class BadInput(Exception):
    """The request does not fit run(); answered with `status`, the script is not called."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class BadOutput(Exception):
    """What run() returned cannot be sent; the cause says why."""


class Script:
    """A script that was loaded and whose run() has a form we can serve."""

    def __init__(self, module: ModuleType, path: str) -> None:
        self.path = path
        self._init = _function(module, "init", path)
        # The main.py that azureml generated in 2018 wraps the user's script under this name.
        inner = getattr(module, "driver_module", module)
        self.run = _function(inner, "run", path)
        self.form = _form_of(self.run)
        self._parameters = _parameters_of(self.run)
        if self.form == RAWHTTP:
            self._input_names = [name for name in self._parameters if name != "request_headers"][:1]
        else:
            self._input_names = [name for name in self._parameters if name != "request_headers"]
        if not self._input_names:
            raise UserScriptError("run() needs to accept an argument for input data.")
        self._wants_headers = "request_headers" in self._parameters

    def init(self) -> None:
        """Call the script's init()."""
        self._init()

    def call(self, request: Request) -> Answer:
        """Call run() for one request; never raises an Exception."""
        started = time.perf_counter()
        try:
            return self.attempt(request)
        except BadInput as e:
            return error(e.status, str(e))
        except BadOutput as e:
            log.error(f"what run() returned cannot be answered: {type(e.__cause__).__name__}: {e.__cause__}")
            return error(500, INTERNAL_ERROR, cause=str(e))
        except (Exception, SystemExit) as e:  # noqa: BLE001 - a script's failure is an answer
            return _script_failed(e, started)

    def attempt(self, request: Request) -> Answer:
        """Call run() for one request; raises BadInput, BadOutput, or what run() raised."""
        started = time.perf_counter()
        value = self.run(**self._arguments(request))
        run_ms = (time.perf_counter() - started) * 1000
        try:
            answer = from_return_value(value)
        except (TypeError, ValueError, RecursionError) as e:
            raise BadOutput(f"what run() returned is no JSON: {e}") from e
        answer.run_ms = run_ms
        return answer

    def _arguments(self, request: Request) -> dict[str, Any]:
        if self.form == RAWHTTP:
            return {self._input_names[0]: AMLRequest(request)}
        arguments: dict[str, Any]
        if self.form == SCHEMA:
            arguments = self._schema_arguments(request)
        elif request.method == "GET":
            arguments = {self._input_names[0]: json.dumps(_query(request.target))}
        else:
            try:
                arguments = {self._input_names[0]: request.body.decode("utf-8")}
            except UnicodeDecodeError as e:
                raise BadInput(400, f"Input cannot be decoded as UTF-8: {e}") from None
        if self._wants_headers:
            arguments["request_headers"] = {name.title(): value for name, value in request.headers.items()}
        return arguments

    def _schema_arguments(self, request: Request) -> dict[str, Any]:
        given = _query(request.target) if request.method == "GET" else _json_object(request)
        arguments = {}
        for name in self._input_names:
            # The decorators look for every parameter by name, so defaults are handed over too.
            value = given.get(name, self._parameters[name].default)
            if value is inspect.Parameter.empty:
                raise BadInput(400, f"A value is not provided for the '{name}' parameter.")
            arguments[name] = value
        return arguments


def load_in_app(settings: Settings) -> Script:
    """Import the script of *settings* as a service has it around it: working folder, paths, azureml names."""
    from sanderling_scoring import azureml_names

    os.environ.setdefault("AML_APP_ROOT", settings.app_root)
    if settings.model_dir:
        os.environ["AZUREML_MODEL_DIR"] = settings.model_dir
    os.chdir(settings.app_root)
    for folder in (settings.app_root, os.environ.get("AZUREML_SOURCE_DIRECTORY", "")):
        if folder and folder not in sys.path:
            sys.path.insert(0, folder)
    azureml_names.install()
    return load(settings.script_path)


def load(path: str) -> Script:
    """Import the script at *path*; raises UserScriptError, or what the script raised."""
    if not os.path.isfile(path):
        raise UserScriptError(f"there is no scoring script at {path}; set AZUREML_ENTRY_SCRIPT or --entry-script")
    import importlib.util

    path = os.path.abspath(path)
    folder, stem = os.path.dirname(path), os.path.splitext(os.path.basename(path))[0]
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Under its own name, so that a pickle made by "import score" finds its classes,
    # unless that would hide a module that others need.
    name = stem if _is_found_at(stem, path) else "entry_module"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserScriptError(f"the scoring script {path} is no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return Script(module, path)


def _is_found_at(name: str, path: str) -> bool:
    import importlib.util

    if not name.isidentifier() or name in sys.modules:
        return False
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and os.path.abspath(found.origin) == path


def model_files(folder: str) -> list[str]:
    """Return the paths of the first 200 files below *folder*, for the log of a failed init()."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            paths.append(os.path.join(parent, file))
            if len(paths) == MAX_LISTED:
                return paths
    return paths


def _function(module: object, name: str, path: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise UserScriptError(f"User script at {path} does not have a {name}() function defined.")
    return function  # type: ignore[no-any-return]


def _parameters_of(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(run).parameters)
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UserScriptError("run() cannot accept positional-only arguments, *args, or **kwargs.")
    inputs = [p for name, p in parameters.items() if name != "request_headers"]
    if _form_of(run) != SCHEMA:
        for extra in inputs[1:]:
            if extra.default is extra.empty:
                raise UserScriptError(
                    f"run() is given one argument for input data and request_headers; {extra.name!r} needs a default."
                )
    return parameters


def _form_of(run: Callable[..., Any]) -> str:
    util = sys.modules.get("inference_schema.schema_util")
    has_schema = util is not None and bool(util.is_schema_decorated(run))
    if is_rawhttp(run):
        if has_schema:
            raise UserScriptError("run() cannot be decorated with both @rawhttp and @input_schema.")
        return RAWHTTP
    return SCHEMA if has_schema else PLAIN


def _script_failed(raised: BaseException, started: float) -> Answer:
    log.error(
        "run() raised an exception\n"
        + "".join(traceback.format_exception(type(raised), raised, raised.__traceback__)).rstrip()
    )
    answer = error(500, SCRIPT_ERROR, has_failed=True, cause=f"{type(raised).__name__}: {raised}")
    answer.run_ms = (time.perf_counter() - started) * 1000
    return answer


def _query(target: str) -> dict[str, Any]:
    from urllib.parse import parse_qs

    values: dict[str, Any] = {}
    for name, texts in parse_qs(target.partition("?")[2], keep_blank_values=True).items():
        parsed = [_json_or_text(text) for text in texts]
        values[name] = parsed[0] if len(parsed) == 1 else parsed
    return values


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json_object(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON_TYPE:
        raise BadInput(415, "Expects Content-Type to be application/json")
    if not request.body:
        raise BadInput(400, "POST body is empty. Expecting a JSON dictionary.")
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError) as e:
        raise BadInput(400, f"POST body could not be decoded as JSON: {e}") from None
    if not isinstance(value, dict):
        raise BadInput(400, "POST body should be a JSON dictionary.")
    return value
