"""`python -m sanderling.server`: the bare server, as `sanderling up` starts it."""

import argparse
import json
import logging
import sys
from pathlib import Path

from sanderling.errors import Invalid, SanderlingError
from sanderling.server.run import ServerInfo, run
from sanderling.server.settings import DEFAULT_MQTT_PORT, DEFAULT_PORT, ServerSettings, place_of_blobs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sanderling.server", description="Run a Sanderling server.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--mqtt-port", type=int, default=DEFAULT_MQTT_PORT)
    parser.add_argument("--host-name", action="append", default=[])
    parser.add_argument("--public-url")
    parser.add_argument("--public-mqtt-port", type=int)
    parser.add_argument("--blobs")
    parser.add_argument("--blobs-endpoint")
    parser.add_argument("--blobs-region")
    parser.add_argument("--blobs-plain-http", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = ServerSettings(
            data=given.data,
            host=given.host,
            port=given.port,
            mqtt_port=given.mqtt_port,
            host_names=tuple(given.host_name),
            public_url=given.public_url,
            public_mqtt_port=given.public_mqtt_port,
            blobs=place_of_blobs(given.blobs, given.blobs_endpoint, given.blobs_region, given.blobs_plain_http),
        )
        run(settings, _print_ready)
    except SanderlingError as e:
        print(f"error: {e.message}", file=sys.stderr)
        return 2 if isinstance(e, Invalid) else 1
    return 0


def _print_ready(info: ServerInfo) -> None:
    """Print one line of JSON, so that a program that started the server knows where it is."""
    shown = {"url": info.url, "mqttPort": info.mqtt_port, "signInUrl": info.sign_in_url, "ca": str(info.ca_path)}
    print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    sys.exit(main())
