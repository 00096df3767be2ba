"""The commands of docs/registry-clients.md, run as they stand there."""

import re
import subprocess
from pathlib import Path

from tests.registry.clients.site import Site
from tests.registry.clients.tools import Tool

PAGE = Path(__file__).parents[3] / "docs" / "registry-clients.md"


def block_of(program: str) -> str:
    """Return the block of the page whose commands are *program*'s."""
    blocks = re.findall(r"^```(?:sh|python)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if re.search(rf"^(?:\w+=\S+ |import )?{program}\b", block, re.MULTILINE)]
    return str(found)


def run_documented(tool: Tool, site: Site, folder: Path, registry: str = "", **more: str) -> str:
    """Run *tool*'s block in *folder*, where the files are that the page speaks of; return what it printed."""
    registry = registry or site.address
    (folder / "ca.pem").write_bytes(site.ca.read_bytes())
    (folder / "password").write_text(site.password)
    (folder / "password").chmod(0o600)
    (folder / "certs").mkdir(exist_ok=True)
    (folder / "certs" / "ca.crt").write_bytes(site.ca.read_bytes())
    name = Path(tool.program).name
    # The tool's own options and program: what a user has in the configuration of the machine.
    function = f'{name}() {{ command {tool.program} {" ".join(tool.options)} "$@"; }}'
    script = f"set -eu -o pipefail\n{function}\n{block_of(name)}"
    environment = tool.variables() | {"REGISTRY": registry} | more
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
