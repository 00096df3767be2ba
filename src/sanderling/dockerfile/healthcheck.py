"""HEALTHCHECK, as Docker keeps it in an image's config."""

import re

from sanderling.dockerfile.syntax import Instruction

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def health_check(at: Instruction) -> dict[str, object]:
    """The config's "Healthcheck"; times in nanoseconds. Raises DockerfileInvalid."""
    form, _, rest = at.rest.partition(" ")
    if form.upper() == "NONE" and not rest.strip() and not at.flags:
        return {"Test": ["NONE"]}
    if form.upper() != "CMD" or not rest.strip():
        raise at.refuse("HEALTHCHECK: write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE")
    words = Instruction(at.name, rest.strip(), at.file, at.line).as_list()
    # CMD-SHELL is run with the image's SHELL by the engine.
    found: dict[str, object] = {"Test": ["CMD", *words] if words else ["CMD-SHELL", rest.strip()]}
    for name, value in at.flags:
        if name in _TIMES:
            found[_TIMES[name]] = _nanoseconds(value, at, name)
        elif name == "retries" and value.isascii() and value.isdecimal() and len(value) < 6:
            found["Retries"] = int(value)
        else:
            raise at.refuse(f"HEALTHCHECK --{name}={value} is not known")
    return found


def _nanoseconds(text: str, at: Instruction, name: str) -> int:
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise at.refuse(f"HEALTHCHECK --{name}={text}: write a time with its unit, as 30s or 1m30s")
    return int(sum(float(number) * _NANOSECONDS[unit] for number, unit in _DURATION.findall(text)))
