"""`sanderling messages`: what the devices sent."""

import json
import sys
from typing import Annotated

import typer

from sanderling.cli.output import JSON_HELP, Output, size_text
from sanderling.sdk.messages import Message, Messages
from sanderling.sdk.workspace import Workspace

EXAMPLE = "sanderling messages --follow --device press-4"
BODY_CHARACTERS = 200


def messages(
    follow: Annotated[bool, typer.Option("--follow", help="Show new messages as they arrive, until Ctrl-C.")] = False,
    device: Annotated[str | None, typer.Option(help="Only messages of this device.")] = None,
    module: Annotated[str | None, typer.Option(help="Only messages of modules with this name.")] = None,
    after: Annotated[int | None, typer.Option(help="Begin after this sequence number.", min=0)] = None,
    limit: Annotated[int, typer.Option(help="How many of the last ones, without --follow.", min=1, max=1000)] = 20,
    json_: Annotated[
        bool, typer.Option("--json", help=f"{JSON_HELP} With --follow, one document on each line.")
    ] = False,
) -> None:
    """Show the messages that devices sent."""
    out = Output(json_)
    stream = Messages(Workspace.from_config())
    if not follow:
        if after is None:
            _, newest = stream.read("latest", limit=1)
            after = max(0, newest - limit)
        found, after_these = stream.read(after, device=device, module=module, limit=limit)
        for message in found:
            _show(out, message)
        if not found:
            out.line("no messages; sanderling messages --follow waits for some")
        elif len(found) == limit:
            out.line(f"    what follows: --after {after_these}")
        out.result([dict(message.values) for message in found])
        return
    try:
        for message in stream.follow("latest" if after is None else after, device=device, module=module):
            if json_:
                sys.stdout.write(json.dumps(dict(message.values), ensure_ascii=False) + "\n")
                sys.stdout.flush()
            else:
                _show(out, message)
    except KeyboardInterrupt:
        return


def _show(out: Output, message: Message) -> None:
    if out.as_json:
        return
    when = message.enqueued_time.astimezone().strftime("%H:%M:%S") if message.enqueued_time else "--:--:--"
    source = "/".join(part for part in (message.device_id, message.module_id, message.output) if part)
    body = size_text(message.size_bytes) if message.body is None else json.dumps(message.body, ensure_ascii=False)
    if len(body) > BODY_CHARACTERS:
        body = f"{body[:BODY_CHARACTERS]}... ({size_text(message.size_bytes)})"
    properties = " ".join(f"{key}={value}" for key, value in message.properties.items())
    out.line(f"{message.sequence}  {when}  {source}  {properties}  {body}")
