"""`sanderling registry usage|gc|quota|retention`: what the registry holds, may hold and lets go of."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, count_text, size_text
from sanderling.errors import Invalid
from sanderling.sdk.hints import hinted
from sanderling.sdk.registry_space import Collection, Gone, RetentionRule, Usage
from sanderling.sdk.workspace import Workspace

SHOWN = 40
_WHAT_WIDTH = 38
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

quota_app = typer.Typer(help="Show and set how much the workspace may hold.", no_args_is_help=True)
retention_app = typer.Typer(help="Show and set what is kept; without a rule nothing is deleted.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Pattern = Annotated[str, typer.Argument(metavar="REPOSITORY", help="digits, or '*' for all of the workspace.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `sanderling registry`."""
    app.command("usage", epilog=example("sanderling registry usage"))(usage)
    app.command("gc", epilog=example("sanderling registry gc --dry-run"))(gc)
    app.add_typer(quota_app, name="quota")
    app.add_typer(retention_app, name="retention")


def usage(json_: Json = False) -> None:
    """Show how many bytes the workspace and its repositories hold."""
    out = Output(json_)
    _show_usage(out, Workspace.from_config().registry.space.usage())


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go, and how many bytes.")] = False,
    json_: Json = False,
) -> None:
    """Apply the retention rules and remove garbage now. The server does so every day by itself."""
    out = Output(json_)
    space = Workspace.from_config().registry.space
    out.step("Looking for what would go" if dry_run else "Collecting garbage, beside pushes and pulls")
    done = space.collect(dry_run=dry_run)
    _show_collection(out, done)
    out.result(
        {
            "dryRun": done.is_dry_run,
            "freedBytes": done.freed_bytes,
            "staleUploads": done.stale_uploads,
            "seconds": done.seconds,
            "problem": done.problem,
            "items": [_camel(asdict(one)) for one in done.gone],
        }
    )
    if done.problem:
        raise typer.Exit(1)


@quota_app.command("show", epilog=example("sanderling registry quota show"))
def show_quota(json_: Json = False) -> None:
    """Show how much the workspace may hold, and holds."""
    out = Output(json_)
    _show_usage(out, Workspace.from_config().registry.space.usage())


@quota_app.command("set", epilog=example("sanderling registry quota set 50GB", "sanderling registry quota set none"))
def set_quota(
    limit: Annotated[str, typer.Argument(metavar="SIZE|none", help="As 50GB or 512MiB; none takes the limit away.")],
    json_: Json = False,
) -> None:
    """Limit how much the workspace may hold; what it holds already stays."""
    out = Output(json_)
    _show_usage(out, Workspace.from_config().registry.space.set_quota(parse_size(limit)))


@retention_app.command("show", epilog=example("sanderling registry retention show"))
def show_rules(json_: Json = False) -> None:
    """Show the retention rules of the workspace."""
    out = Output(json_)
    _show_rules(out, Workspace.from_config().registry.space.rules())


@retention_app.command(
    "set",
    epilog=example(
        "sanderling registry retention set '*' --keep-last 10 --untagged-days 7",
        "sanderling registry retention set digits --keep-days 90 --keep-tag 'v*'",
    ),
)
def set_rule(
    repository: Pattern,
    keep_last: Annotated[int | None, typer.Option(metavar="N", help="Keep the last N tagged images.")] = None,
    keep_days: Annotated[
        float | None, typer.Option(metavar="D", help="Keep tags that were pushed within D days.")
    ] = None,
    keep_tag: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Keep tags like this always; may be repeated.")
    ] = None,
    untagged_days: Annotated[
        float | None, typer.Option(metavar="D", help="Delete images that had no tag for D days.")
    ] = None,
    json_: Json = False,
) -> None:
    """Keep a rule, in place of another for the same repositories. What any rule keeps is kept.

    Images that devices run, or are to run, are always kept.
    """
    out = Output(json_)
    workspace = Workspace.from_config()
    rule = RetentionRule(_full(workspace.name, repository), keep_last, keep_days, tuple(keep_tag or ()), untagged_days)
    rules = workspace.registry.space.set_rule(rule)
    out.step(f"Kept the rule for {rule.pattern}; see what it takes away: sanderling registry gc --dry-run")
    _show_rules(out, rules)


@retention_app.command("clear", epilog=example("sanderling registry retention clear '*'"))
def clear_rule(repository: Pattern, json_: Json = False) -> None:
    """Delete a rule; nothing goes by it any more."""
    out = Output(json_)
    workspace = Workspace.from_config()
    pattern = _full(workspace.name, repository)
    rules = workspace.registry.space.clear_rule(pattern)
    out.step(f"Deleted the rule for {pattern}")
    _show_rules(out, rules)


def parse_size(text: str) -> int | None:
    """Read 50GB or 512MiB; None for `none`. Raises `Invalid`."""
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) *([kmgt]?i?b?)", text.strip(), re.IGNORECASE)
    unit = found[2].upper() if found else "?"
    factor = _UNITS.get(unit) or _UNITS.get(f"{unit}B")
    if found is None or factor is None:
        raise hinted(Invalid(f"{text[:50]!r} is no size"), "50GB, 512MiB, or none for no limit")
    return int(float(found[1]) * factor)


def what_text(one: Gone) -> str:
    """Name what goes, in at most 38 letters."""
    if one.kind == "tag":
        return _shortened(f"tag {one.repository}:{one.reference}")
    short = one.reference.partition(":")[2][:12]
    if one.kind == "blob":
        return f"bytes {short}"
    return f"{_shortened(f'image {one.repository}', _WHAT_WIDTH - 13)}@{short}"


def _shortened(text: str, width: int = _WHAT_WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[len(text) - width + width // 2 :]}"


def _full(workspace: str, repository: str) -> str:
    return repository if repository.startswith(f"{workspace}/") else f"{workspace}/{repository}"


def _show_collection(out: Output, done: Collection) -> None:
    shown = [one for one in done.gone if one.kind != "link"]
    links = len(done.gone) - len(shown)
    out.table(
        ("WHAT", "#SIZE", "WHY"),
        [(what_text(one), size_text(one.size_bytes) if one.size_bytes else "", one.why) for one in shown[:SHOWN]],
        empty="nothing to remove" if not links else "",
    )
    if len(shown) > SHOWN:
        out.line(f"and {len(shown) - SHOWN:,} more; --json has them all")
    would = "would " if done.is_dry_run else ""
    tail = f", {count_text(links, 'link')} to blobs that no manifest names" if links else ""
    if done.gone:
        out.line(f"{count_text(len(shown), 'thing')}{tail}: {size_text(done.freed_bytes)} {would}{_freed(done)}")
    if done.stale_uploads:
        out.line(
            f"{count_text(done.stale_uploads, 'upload')} that nobody went on with {would}end{'' if would else 'ed'}"
        )
    if done.problem:
        out.line(f"left out: {done.problem}")


def _freed(done: Collection) -> str:
    return "be free" if done.is_dry_run else f"are free, in {done.seconds:.1f} s"


def _show_usage(out: Output, found: Usage) -> None:
    limit = "no limit" if found.limit_bytes is None else size_text(found.limit_bytes)
    out.facts([("workspace", found.workspace), ("holds", size_text(found.size_bytes)), ("quota", limit)])
    if found.repositories:
        out.line()
    out.table(
        ("REPOSITORY", "#SIZE", "#BLOBS", "#MANIFESTS"),
        [(one.name, size_text(one.size_bytes), one.blobs, one.manifests) for one in found.repositories],
    )
    out.result(
        {
            "workspace": found.workspace,
            "sizeBytes": found.size_bytes,
            "limitBytes": found.limit_bytes,
            "repositories": [_camel(asdict(one)) for one in found.repositories],
        }
    )


def _show_rules(out: Output, rules: Sequence[RetentionRule]) -> None:
    out.table(
        ("REPOSITORIES", "#LAST", "#DAYS", "TAGS KEPT", "#UNTAGGED"),
        [
            (
                rule.pattern,
                rule.keep_last,
                None if rule.keep_days is None else f"{rule.keep_days:g}",
                " ".join(rule.keep_tags),
                None if rule.untagged_days is None else f"{rule.untagged_days:g} days",
            )
            for rule in rules
        ],
        empty="no rules: nothing is deleted but garbage; sanderling registry retention set --help",
    )
    out.result([_camel(asdict(rule)) for rule in rules])


def _camel(values: dict[str, Any]) -> dict[str, Any]:
    def key(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(word.capitalize() for word in rest)

    return {
        key(name): list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
        for name, value in values.items()
    }
