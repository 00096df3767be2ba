"""What the process is told, by its environment and then by its flags.

The variables are those of azureml's inference server; what it does not have is
named SANDERLING_*.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Optional


class BadSettings(Exception):
    """A variable or flag that cannot be; the message names it and what it should be."""


class Settings:
    """Everything a run depends on. Sizes in bytes, times in seconds."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.app_root = os.path.abspath(environ.get("AML_APP_ROOT") or os.getcwd())
        self.entry_script = environ.get("AZUREML_ENTRY_SCRIPT", "")
        self.model_dir = environ.get("AZUREML_MODEL_DIR", "")
        self.host = environ.get("SERVER_HOST") or "0.0.0.0"
        self.port = _integer(environ, "SERVER_PORT", 5001, 0, 65535)
        self.path_prefix = "/".join(["", *environ.get("SERVICE_PATH_PREFIX", "").strip("/").split("/")]).rstrip("/")
        self.service_name = environ.get("SERVICE_NAME") or "ML service"
        self.service_version = environ.get("SERVICE_VERSION") or "1.0"
        self.timeout_s = _integer(environ, "SCORING_TIMEOUT_MS", 3_600_000, 1, 1 << 40) / 1000
        self.cors_origins = _list(environ.get("AML_CORS_ORIGINS", ""))
        self.shows_version = environ.get("SERVER_VERSION_LOG_RESPONSE_ENABLED", "true").lower() == "true"
        self.max_body_bytes = _integer(environ, "SANDERLING_MAX_BODY_BYTES", 64 << 20, 1, 1 << 40)
        self.max_held_bytes = _integer(environ, "SANDERLING_MAX_HELD_BYTES", 256 << 20, 1, 1 << 40)
        self.max_connections = _integer(environ, "SANDERLING_MAX_CONNECTIONS", 1024, 1, 1 << 20)
        self.max_waiting = _integer(environ, "SANDERLING_MAX_WAITING", 512, 1, 1 << 20)
        self.receive_timeout_s = _integer(environ, "SANDERLING_RECEIVE_TIMEOUT_MS", 30_000, 1, 1 << 40) / 1000
        self.idle_timeout_s = _integer(environ, "SANDERLING_IDLE_TIMEOUT_MS", 75_000, 1, 1 << 40) / 1000
        self.inputs = _list(environ.get("SANDERLING_INPUTS", "")) or ("amlInput",)
        self.says_hello = False
        self.is_check = False
        self.sample = ""
        self.report_fd = 1

    @property
    def script_path(self) -> str:
        """The scoring script; without a name, the main.py that images of 2018 have."""
        return os.path.join(self.app_root, self.entry_script or "main.py")


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings; flags win over the environment. Raises BadSettings; `--help` exits."""
    settings = Settings(environ)
    if not argv:
        return settings  # an image's start has no flags, and saves the import
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m sanderling_scoring",
        description="Serve a scoring script: init() once, then run() for each request to /score.",
        epilog="Each flag has a variable: AZUREML_ENTRY_SCRIPT, AZUREML_MODEL_DIR, SERVER_PORT, SERVER_HOST.",
    )
    parser.add_argument("--entry-script", metavar="FILE", help="the scoring script (score.py)")
    parser.add_argument("--model-dir", metavar="DIR", help="what AZUREML_MODEL_DIR is for the script")
    parser.add_argument("--host", help="the address to listen on (default 0.0.0.0)")
    parser.add_argument("--port", type=int, help="the port to listen on (default 5001; 0 takes a free one)")
    parser.add_argument("--hello", action="store_true", help="print a curl line to try")
    parser.add_argument("--check", action="store_true", help="init() and run() once, report as JSON, do not serve")
    parser.add_argument("--sample", metavar="FILE", help="with --check: the body of the request that run() gets")
    parser.add_argument("--report-fd", type=int, default=1, metavar="FD", help="with --check: where the report goes")
    flags = parser.parse_args(argv)
    settings.entry_script = _first(flags.entry_script, settings.entry_script)
    if flags.entry_script:
        settings.entry_script = os.path.abspath(flags.entry_script)
    if flags.model_dir:
        settings.model_dir = os.path.abspath(flags.model_dir)
    settings.host = _first(flags.host, settings.host)
    if flags.port is not None:
        if not 0 <= flags.port <= 65535:
            raise BadSettings(f"--port {flags.port} is not a port; give a number from 0 to 65535")
        settings.port = flags.port
    settings.says_hello = flags.hello
    settings.is_check, settings.report_fd = flags.check, flags.report_fd
    settings.sample = _first(flags.sample, "")
    return settings


def _first(flag: Optional[str], otherwise: str) -> str:
    return flag if flag else otherwise


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise BadSettings(f"{name}={text} is not a number from {low} to {high}")
    return int(text)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
