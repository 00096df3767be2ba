import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from sanderling.cli.registry_space import SHOWN, parse_size, what_text
from sanderling.errors import Invalid
from sanderling.oci import Digest
from sanderling.sdk.registry_space import Gone


def workspace_of(project: Path) -> str:
    return str(json.loads((project / "config.json").read_text())["workspace_name"])


def run(up: Any, project: Path, *words: str) -> Any:
    done = up.cli("registry", *words, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def push_blob(up: Any, project: Path, content: bytes) -> httpx.Response:
    url = f"{up.url}/v2/{workspace_of(project)}/digits/blobs/uploads/"
    headers = {"Authorization": f"Bearer {up.token}"}

    context = ssl.create_default_context(cafile=str(up.ca_file))
    with httpx.Client(verify=context, headers=headers, trust_env=False) as client:
        return client.post(url, params={"digest": Digest.of(content)}, content=content)


def test_rules_are_set_shown_and_cleared(up: Any, project: Path) -> None:
    name = workspace_of(project)
    assert run(up, project, "retention", "show") == []
    run(up, project, "retention", "set", "*", "--keep-last", "5", "--untagged-days", "7")
    rules = run(up, project, "retention", "set", "digits", "--keep-days", "90", "--keep-tag", "v*", "--keep-tag", "x")
    assert rules == [
        {"pattern": f"{name}/*", "keepLast": 5, "keepDays": None, "keepTags": [], "untaggedDays": 7},
        {"pattern": f"{name}/digits", "keepLast": None, "keepDays": 90, "keepTags": ["v*", "x"], "untaggedDays": None},
    ]
    shown = up.cli("registry", "retention", "show", cwd=project).stdout
    assert f"{name}/digits" in shown
    assert "v* x" in shown
    assert len(run(up, project, "retention", "clear", f"{name}/digits")) == 1
    assert run(up, project, "retention", "clear", "*") == []
    assert "nothing is deleted but garbage" in up.cli("registry", "retention", "show", cwd=project).stdout
    again = up.cli("registry", "retention", "clear", "*", cwd=project)
    assert (again.returncode, "no retention rule" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["*"], "says nothing"),
        (["*", "--keep-last", "0"], "a number from 1"),
        (["../other", "--keep-last", "1"], "no pattern of repositories"),
        (["*", "--keep-tag", "a/b"], "matches no tag"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(up: Any, project: Path, options: list[str], says: str) -> None:
    done = up.cli("registry", "retention", "set", *options, cwd=project)
    assert done.returncode == 2
    assert says in done.stderr
    assert run(up, project, "retention", "show") == []


def test_a_quota_refuses_what_is_too_much_and_says_the_way_out(up: Any, project: Path) -> None:
    before = run(up, project, "usage")
    assert (before["sizeBytes"], before["limitBytes"]) == (0, None)
    assert run(up, project, "quota", "set", "1KB")["limitBytes"] == 1000
    assert push_blob(up, project, b"x" * 900).status_code == 201
    refused = push_blob(up, project, b"y" * 900)
    assert refused.status_code == 403
    (error,) = refused.json()["errors"]
    assert error["code"] == "DENIED"
    assert "may hold 1.0 kB in the registry and holds 900 B" in error["message"]
    assert run(up, project, "quota", "show")["sizeBytes"] == 900
    shown = up.cli("registry", "usage", cwd=project).stdout
    assert "900 B" in shown
    assert "1.0 kB" in shown
    assert run(up, project, "quota", "set", "none")["limitBytes"] is None
    assert push_blob(up, project, b"y" * 900).status_code == 201


def test_the_garbage_of_this_moment_is_kept_and_a_dry_run_says_so(up: Any, project: Path) -> None:
    assert push_blob(up, project, b"a push in flight").status_code == 201
    for words in (["gc", "--dry-run"], ["gc"]):
        report = run(up, project, *words)
        assert report["dryRun"] is (len(words) == 2)
        assert (report["items"], report["freedBytes"], report["problem"]) == ([], 0, "")
    done = up.cli("registry", "gc", "--dry-run", cwd=project)
    assert "nothing to remove" in done.stdout
    assert "0 B" not in done.stdout


def test_lines_fit_a_terminal_of_80_columns() -> None:
    long = "workspace/" + "very-long-name/" * 10 + "digits"
    digest = Digest.of(b"")
    for one in (
        Gone("tag", long, "1.0-with-a-long-suffix", "", 0),
        Gone("manifest", long, digest, "", 0),
        Gone("blob", "", digest, "", 0),
        Gone("tag", "demo/digits", "1", "", 0),
    ):
        assert len(what_text(one)) <= 38
    assert what_text(Gone("tag", "demo/digits", "1", "", 0)) == "tag demo/digits:1"
    assert SHOWN == 40


@pytest.mark.parametrize(
    ("text", "size"),
    [("50GB", 50 * 10**9), ("1.5 MiB", 3 * 2**19), ("0", 0), ("512k", 512_000), ("none", None), ("7 b", 7)],
)
def test_sizes_are_read(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1XB", "lots", "1e9", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no size"):
        parse_size(text)
