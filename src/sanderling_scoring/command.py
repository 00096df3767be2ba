"""Start, serve and stop one scoring process.

    settings ─▶ bind ─▶ azureml names ─▶ load script ─▶ init() ─▶ listen ─▶ serve ─▶ drain

Exit codes: 0 stopped as asked; 1 the address cannot be had; 2 wrong usage;
3 the script cannot start (the code that azureml's server has for it).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback

from sanderling_scoring import answers, log, script
from sanderling_scoring.http_server import DRAIN_S, HttpServer
from sanderling_scoring.metrics import Metrics
from sanderling_scoring.routes import Routes
from sanderling_scoring.scorer import Scorer
from sanderling_scoring.settings import BadSettings, Settings, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from sanderling_scoring.module_client import ModuleClient
    from sanderling_scoring.script import Script
    from sanderling_scoring.workload import ModuleIdentity

DONE, NO_ADDRESS, WRONG_USAGE, BAD_SCRIPT = 0, 1, 2, 3
BACKLOG = 1024
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve the script that the environment or *argv* names, until SIGTERM or SIGINT; return the exit code.

    Must run on the main thread, which init() and run() get.
    """
    try:
        settings = parse(sys.argv[1:] if argv is None else argv, os.environ)
        identity = _identity()
    except BadSettings as e:
        log.error(str(e))
        return WRONG_USAGE
    if settings.is_check:
        from sanderling_scoring import check

        return check.run(settings)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # what the script prints is seen at once
    for number in STOP_SIGNALS:
        signal.signal(number, _stop_start)
    try:
        listener = _bind(settings)
    except OSError as e:
        reason = e.strerror or e
        log.error(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; --port or SERVER_PORT chooses another"
        )
        return NO_ADDRESS
    with listener:
        loaded = _start_script(settings)
        return BAD_SCRIPT if loaded is None else _serve(settings, loaded, identity, listener)


def _stop_start(number: int, frame: object) -> None:
    raise SystemExit(DONE)


def _bind(settings: Settings) -> socket.socket:
    # Bound before init(), so that a port in use is known at once; it listens only
    # afterwards, so that nobody is promised an answer before.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except BaseException:
        listener.close()
        raise
    return listener


def _start_script(settings: Settings) -> Optional[Script]:
    log.info(f"loading {settings.script_path}")
    try:
        loaded = script.load_in_app(settings)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever the script raises is its author's to see
        _explain(e, "cannot be loaded")
        return None
    started = time.monotonic()
    try:
        loaded.init()
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever the script raises is its author's to see
        _explain(e, "failed in init()")
        _list_models(os.environ.get("AZUREML_MODEL_DIR", ""))
        return None
    log.info(f"init() is done after {time.monotonic() - started:.3f} s")
    return loaded


def _explain(raised: BaseException, what: str) -> None:
    if isinstance(raised, SystemExit) and raised.code == DONE and _was_asked_to_stop(raised):
        raise raised
    if isinstance(raised, script.UserScriptError):
        log.error(f"the scoring script {what}: UserScriptError: {raised}")
        return
    log.error(f"the scoring script {what}: {type(raised).__name__}: {raised}")
    sys.stderr.write("".join(traceback.format_exception(type(raised), raised, raised.__traceback__)))
    sys.stderr.flush()


def _was_asked_to_stop(raised: BaseException) -> bool:
    frames = raised.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_code is _stop_start.__code__


def _list_models(folder: str) -> None:
    if not folder:
        log.error("AZUREML_MODEL_DIR is not set")
        return
    paths = script.model_files(folder)
    log.error(f"AZUREML_MODEL_DIR is {folder}; it holds {len(paths) or 'no'} files" + (":" if paths else ""))
    for path in paths:
        sys.stderr.write(f"    {path}\n")
    if len(paths) == script.MAX_LISTED:
        sys.stderr.write(f"    (the first {script.MAX_LISTED})\n")
    sys.stderr.flush()


def _serve(settings: Settings, loaded: Script, identity: Optional[ModuleIdentity], listener: socket.socket) -> int:
    metrics = Metrics()
    scorer = Scorer(
        loaded.call, answers.timed_out, metrics, timeout_s=settings.timeout_s, max_waiting=settings.max_waiting
    )
    routes = Routes(settings, loaded, scorer, metrics)
    wake = os.pipe()
    for end in wake:
        os.set_blocking(end, False)
    server = HttpServer(listener, routes, settings, wake, tick_s=max(0.01, min(1.0, settings.timeout_s / 4)))
    routes.gauges = server.gauges
    server.on_tick = scorer.expire
    module = None if identity is None else _module_client(identity, settings, scorer, metrics)

    def stop(number: int) -> None:
        if number in STOP_SIGNALS:
            log.info(f"{signal.Signals(number).name}: stopping when what has begun is answered")
            server.drain()
            if module is not None:
                module.stop()

    server.on_signal = stop
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: None)  # the wake-up pipe carries the number
    _let_forked_workers_die()
    gc.freeze()  # what init() made stays; the collector need not walk it again
    listener.listen(BACKLOG)
    listener.setblocking(False)
    _greet(settings, listener)
    loop = threading.Thread(target=_run_loop, args=(server, scorer, module), name="http", daemon=True)
    loop.start()
    scorer.serve()
    signal.set_wakeup_fd(-1)
    log.info("stopped")
    return DONE


def _let_forked_workers_die() -> None:
    """Give processes that the script forks the usual end by SIGTERM.

    A pool ends its workers with SIGTERM. A worker must die of it and not write
    the number into our pipe, so the signal waits until the worker is its own.
    """
    kept: list[set[int]] = []

    def before() -> None:
        kept.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)))

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept.pop())

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, kept.pop())

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _run_loop(server: HttpServer, scorer: Scorer, module: Optional[ModuleClient]) -> None:
    """Serve HTTP; whatever ends the loop ends the process."""
    try:
        if module is not None:
            module.start()
        server.serve()
        stop_by = server.drain_until
        if module is not None:
            module.join(max(0.1, stop_by - time.monotonic()))
    except BaseException:  # noqa: BLE001 - nothing may leave a process that scores for nobody
        log.error("the HTTP loop failed\n" + traceback.format_exc().rstrip())
        os._exit(70)
    scorer.stop()
    # The main thread ends the process when run() comes back. A run() that nobody
    # waits for, perhaps deep in native code, does not hold it up for ever.
    time.sleep(max(0.0, stop_by - time.monotonic()))
    log.warning(f"run() has not come back {DRAIN_S} s after the stop")
    os._exit(DONE)


def _identity() -> Optional[ModuleIdentity]:
    """Return who this module is; None when it runs on no edge device."""
    if not (os.environ.get("IOTEDGE_WORKLOADURI") and os.environ.get("IOTEDGE_MODULEID")):
        return None
    from sanderling_scoring.workload import ModuleIdentity

    return ModuleIdentity.from_environment(os.environ)


def _module_client(identity: ModuleIdentity, settings: Settings, scorer: Scorer, metrics: Metrics) -> ModuleClient:
    from sanderling_scoring.module_client import ModuleClient

    return ModuleClient(identity, settings.inputs, scorer, metrics)


def _greet(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    log.info(f"listening on {url}{settings.path_prefix}/score")
    if settings.says_hello or (hasattr(sys.stdout, "isatty") and sys.stdout.isatty()):
        print(f"Scoring {settings.script_path} at {url}{settings.path_prefix}/score; Ctrl-C stops. Try:")
        body = '{"data": [[1, 2, 3]]}'
        print(f"  curl -H 'Content-Type: application/json' -d '{body}' {url}{settings.path_prefix}/score")
