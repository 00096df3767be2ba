import json
from pathlib import Path
from typing import Any
from uuid import uuid4


def test_an_upstream_is_added_shown_switched_and_removed(up: Any, project: Path) -> None:
    name = f"u-{uuid4().hex[:8]}"
    options = ["--registry", "quay.io", "--username", "ci", "--password-stdin", "--ttl", "12h", "--only", "app/*"]
    added = up.cli("registry", "upstream", "add", name, *options, "--json", cwd=project, stdin="s3cret-word\n")
    assert added.returncode == 0, added.stderr
    shown = json.loads(added.stdout)
    assert (shown["registry"], shown["username"], shown["hasPassword"]) == ("quay.io", "ci", True)
    assert (shown["ttlSeconds"], shown["only"]) == (43200, ["app/*"])
    listed = up.cli("registry", "upstream", "list", cwd=project)
    assert name in listed.stdout
    assert "12h" in listed.stdout
    assert "off" in up.cli("registry", "upstream", "disable", name, cwd=project).stdout
    facts = up.cli("registry", "upstream", "show", name, cwd=project)
    assert "quay.io" in facts.stdout + facts.stderr
    assert up.cli("registry", "upstream", "enable", name, cwd=project).returncode == 0
    assert up.cli("registry", "upstream", "remove", name, "--yes", cwd=project).returncode == 0
    gone = up.cli("registry", "upstream", "show", name, cwd=project)
    assert gone.returncode == 2
    for done in (added, listed, facts):
        assert "s3cret-word" not in done.stdout + done.stderr


def test_a_password_needs_a_user_name(up: Any, project: Path) -> None:
    done = up.cli("registry", "upstream", "add", "x", "--registry", "quay.io", "--password-stdin", cwd=project)
    assert done.returncode == 2
    assert "--username" in done.stderr


def test_a_registry_with_a_path_is_refused(up: Any, project: Path) -> None:
    done = up.cli("registry", "upstream", "add", "x", "--registry", "https://quay.io/app", cwd=project)
    assert done.returncode == 2
    assert "without https://" in done.stderr
