"""Records the demo as docs/images/demo.svg and docs/images/demo.txt: python docs/record.py.

Runs `sanderling demo` in a pseudo-terminal, from an empty folder, and keeps what a
user sees. The passwords and the sign-in link of that run are replaced: the server
is gone, but a picture is no place for secrets.
"""

import io
import os
import pty
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
IMAGES = Path(__file__).with_name("images")
# Without the style sheet's fonts from elsewhere: a page of ours loads nothing from other hosts.
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def record() -> bytes:
    """Run the demo in a terminal of its own; return what it wrote."""
    wrote: list[bytes] = []

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        wrote.append(data)
        return data

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
        os.environ["SANDERLING_CONFIG_DIR"] = f"{folder}/config"
        command = [str(Path(sys.executable).with_name("sanderling")), "demo", "--data", f"{folder}/demo-data"]
        status = pty.spawn(command, keep)
        if status:
            sys.exit(f"the demo ended with status {status}")
        return b"".join(wrote).replace(f"{folder}/".encode(), b"")


def settled(raw: str) -> str:
    """What stands on the screen at the end: progress lines that were drawn over are gone."""
    lines: list[str] = []
    for line in raw.replace("\r\n", "\n").split("\n"):
        last = line.rsplit("\r", 1)[-1]
        while match := re.search(r"\x1b\[(\d*)A(?:\x1b\[2K)?", last):
            count = int(match[1] or 1)
            del lines[max(0, len(lines) - count) :]
            last = last[match.end() :]
        lines.append(re.sub(r"\x1b\[[0-9;?]*[A-Zhlj-l]", "", last))
    return "\n".join(lines)


def without_secrets(text: str) -> str:
    """Hide what was secret in the run."""
    text = re.sub(r"(sign-in#)\S+", r"\1...", text)
    return re.sub(r"(password2? +)\S{20,}", r"\1...", text)


def main() -> None:
    text = Text.from_ansi(without_secrets(settled(record().decode(errors="replace"))))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(text)
    IMAGES.joinpath("demo.txt").write_text("\n".join(line.rstrip() for line in text.plain.splitlines()) + "\n")
    console.save_svg(str(IMAGES / "demo.svg"), title="scripts/demo", code_format=FORMAT)


if __name__ == "__main__":
    main()
