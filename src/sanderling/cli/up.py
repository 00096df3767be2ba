"""`sanderling up`: the server with its portal, registry, hub and builds, in one process."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from sanderling.cli.build_options import BuildMemory, BuildTime, BuildWorkers, GateMemory, GateRequired, GateTime
from sanderling.cli.durations import parse_duration
from sanderling.cli.extras import needs_extra
from sanderling.cli.output import JSON_HELP, Output
from sanderling.cli.store_options import Blobs, BlobsEndpoint, BlobsPlainHttp, BlobsRegion

if TYPE_CHECKING:
    from sanderling.server.run import ServerInfo

EXAMPLE = "sanderling up --data ./sanderling-data --port 8443 --mqtt-port 8883"


def up(
    data: Annotated[Path, typer.Option(help="The folder for everything that is kept.")] = Path("sanderling-data"),
    port: Annotated[int, typer.Option(help="HTTPS: portal, API, registry, hub.", min=0, max=65535)] = 8443,
    mqtt_port: Annotated[int, typer.Option(help="MQTT over TLS, for devices.", min=0, max=65535)] = 8883,
    host: Annotated[str | None, typer.Option(help="The address to listen on; all if none is given.")] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name for the certificate; the first is what devices are told."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="How devices and people reach it, when that is not this host and port.")
    ] = None,
    public_mqtt_port: Annotated[
        int | None, typer.Option(help="The MQTT port that devices are told.", min=1, max=65535)
    ] = None,
    blobs: Blobs = None,
    blobs_endpoint: BlobsEndpoint = None,
    blobs_region: BlobsRegion = None,
    blobs_plain_http: BlobsPlainHttp = False,
    build_workers: BuildWorkers = 1,
    build_time: BuildTime = "1h",
    build_memory: BuildMemory = None,
    gate_time: GateTime = "5m",
    gate_memory: GateMemory = None,
    gate_required: GateRequired = False,
    json_: Annotated[bool, typer.Option("--json", help=f"{JSON_HELP} It is printed once the server answers.")] = False,
) -> None:
    """Start the server and run it until Ctrl-C."""
    out = Output(json_)
    with needs_extra("server"):
        from sanderling.server.run import run
        from sanderling.server.settings import ServerSettings, place_of_blobs

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = ServerSettings(
        data=data,
        host=host,
        port=port,
        mqtt_port=mqtt_port,
        host_names=tuple(host_name or ()),
        public_url=public_url,
        public_mqtt_port=public_mqtt_port,
        blobs=place_of_blobs(blobs, blobs_endpoint, blobs_region, blobs_plain_http),
        build_workers=build_workers,
        build_time_limit_s=parse_duration("--build-time", build_time).total_seconds(),
        build_memory_bytes=None if build_memory is None else build_memory * 10**6,
        gate_time_limit_s=parse_duration("--gate-time", gate_time).total_seconds(),
        gate_memory_bytes=None if gate_memory is None else gate_memory * 10**6,
        is_gate_required=gate_required,
    )
    out.step(f"Starting the server in {data}")
    run(settings, lambda info: _show(out, info))
    out.step("Stopped")


def _show(out: Output, info: "ServerInfo") -> None:
    host = urlsplit(info.url).hostname
    out.step("Ready; Ctrl-C stops it")
    out.facts(
        [
            ("    portal", info.sign_in_url),
            ("", "works once, for 15 minutes; sanderling open prints another"),
            ("    registry", info.url.removeprefix("https://")),
            ("    MQTT", f"{host}:{info.mqtt_port}"),
            ("    CA", info.ca_path),
            ("    data", info.data),
        ]
    )
    out.line("    in another terminal: sanderling init --name demo")
    out.result(
        {
            "url": info.url,
            "signInUrl": info.sign_in_url,
            "loginServer": info.url.removeprefix("https://"),
            "mqttPort": info.mqtt_port,
            "ca": str(info.ca_path),
            "data": str(info.data),
        }
    )
