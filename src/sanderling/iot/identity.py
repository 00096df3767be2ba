"""Names of devices and modules."""

import re

from sanderling.errors import Invalid

# The characters that IoT Hub allows; none of them has a meaning in an MQTT topic filter or ends a topic level.
_ID = re.compile(r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}")

EDGE_AGENT = "$edgeAgent"
EDGE_HUB = "$edgeHub"
SYSTEM_MODULES = (EDGE_AGENT, EDGE_HUB)


def is_valid_id(text: str) -> bool:
    """Whether *text* can name a device or a module: 1 to 128 of the allowed characters, and no path step."""
    return _ID.fullmatch(text) is not None and text not in (".", "..")


def check_id(kind: str, text: str) -> str:
    """Return *text*; raise Invalid when it cannot name a *kind* ("device" or "module")."""
    if not is_valid_id(text):
        raise Invalid(f"{text[:140]!r} cannot name a {kind}: use 1 to 128 of A-Z a-z 0-9 and -.%_*?!(),:=@$'")
    return text


def client_id(device_id: str, module_id: str | None = None) -> str:
    """The MQTT client id: ``device`` or ``device/module``."""
    return device_id if module_id is None else f"{device_id}/{module_id}"
