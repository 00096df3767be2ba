"""What the scoring server reported from inside the sandbox, in a sentence for the script's author."""

from collections.abc import Mapping, Sequence
from typing import Any

from sanderling.errors import Invalid
from sanderling.image.figures import size_text
from sanderling.image.gate.box import KEPT_LINES, Outcome, plain
from sanderling.image.gate.limits import Limits

_STAGES = {"load": "loading it", "init": "init()", "run": "run()"}
_WAY_OUT = "mend it, or build without the gate (--no-gate, gate=False)"


class GateFailed(Invalid):
    """The image does not score: its script failed in the sandbox, and nothing was published.

    *stage* is "load", "init" or "run"; *file* and *line* are the script's, where
    they are known; *package* is a module that was missing; *lines* are the last
    lines of the traceback or of what the script printed, at most 30.
    """

    def __init__(
        self,
        text: str,
        *,
        stage: str,
        file: str | None = None,
        line: int | None = None,
        package: str | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        super().__init__(text)
        self.stage, self.file, self.line, self.package, self.lines = stage, file, line, package, tuple(lines)


def judge(outcome: Outcome, script: str, limits: Limits) -> Mapping[str, Any]:
    """Return the report of a trial that went well. Raises GateFailed."""
    last = outcome.report[-1] if outcome.report else {}
    if outcome.ended_by is None and last.get("stage") == "done" and outcome.code == 0:
        return last
    if outcome.ended_by is None and last.get("stage") == "failed":
        raise _failed(last, script, outcome.output)
    stage = str(last.get("stage") or "load")
    stage = stage if stage in _STAGES else "run"
    where = f"the gate: {script}, in {_STAGES[stage]}"
    match outcome.ended_by:
        case "time":
            why = f"it was not done after {limits.time_s:g} s, the gate's limit"
        case "memory":
            why = f"it took more than {size_text(limits.all_memory_bytes)} of memory, the gate's limit"
        case _ if outcome.code > 128:
            why = f"the process was ended by signal {outcome.code - 128}"
        case _:
            why = f"the process ended with code {outcome.code} before it came back"
    raise GateFailed(f"{where}: {why}; {_WAY_OUT}", stage=stage, file=script, lines=outcome.output)


def _failed(report: Mapping[str, Any], script: str, output: Sequence[str]) -> GateFailed:
    stage = str(report.get("in"))
    file, line = report.get("file"), report.get("line")
    file = plain(file)[:200] if isinstance(file, str) else script
    line = line if isinstance(line, int) else None
    missing = report.get("missing")
    missing = plain(missing)[:200] if isinstance(missing, str) and missing else None
    place = f"{file}, line {line}" if line else file
    error = plain(" ".join(str(report.get("error")).split()))[:600]
    way_out = f"add the package that brings '{missing.split('.')[0]}' to the environment file" if missing else _WAY_OUT
    traceback = report.get("traceback")
    lines = [plain(str(text))[:1000] for text in traceback] if isinstance(traceback, list) else []
    return GateFailed(
        f"the gate: {place}, in {_STAGES.get(stage, stage)}: {error}; {way_out}",
        stage=stage,
        file=file,
        line=line,
        package=missing,
        lines=(lines or list(output))[-KEPT_LINES:],
    )
