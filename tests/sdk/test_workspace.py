import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sanderling import Workspace
from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.sdk.client import Client
from sanderling.sdk.settings import remember


def test_a_workspace_is_made_once(client: Client) -> None:
    name = f"w-{uuid4().hex[:8]}"
    made = Workspace.create(name, client=client)
    with pytest.raises(Conflict):
        Workspace.create(name, client=client)
    again = Workspace.create(name, client=client, exist_ok=True)
    assert made.details["createdAt"] == again.details["createdAt"]
    assert made.login_server == client.url.removeprefix("https://")
    assert name in {workspace.name for workspace in Workspace.list(client=client)}


@pytest.mark.parametrize("name", ["", "a", "-ab", "ab-", "A-b", "a" * 33, "a/b"])
def test_a_name_that_cannot_be_one_is_refused(client: Client, name: str) -> None:
    with pytest.raises(Invalid, match="cannot name a workspace"):
        Workspace.create(name, client=client)


def test_an_unknown_workspace_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="no-such"):
        Workspace.get("no-such", client=client)


def test_config_names_the_workspace_and_holds_no_secret(
    workspace: Workspace, up: Any, config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(up.url, ca_file=up.ca_file, token=up.token)
    path = workspace.write_config(tmp_path)
    assert up.token not in path.read_text()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    found = Workspace.from_config()
    assert found.name == workspace.name
    assert found.details == workspace.details
    found.client.close()


def test_the_public_names_import_without_the_network_library() -> None:
    code = (
        "import sys; from sanderling import Workspace, Model, Image, Device, Deployment; print('httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
