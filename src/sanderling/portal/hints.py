"""The commands that a page offers, word for word as the command line takes them.

Names come from people and devices, so each one is quoted for a shell.
"""

import shlex


def init(url: str, name: str = "demo") -> str:
    return f"sanderling init --name {shlex.quote(name)} --url {shlex.quote(url)}"


def register() -> str:
    return "sanderling model register model.pkl --name digits"


def build(model_id: str = "digits:1") -> str:
    name = model_id.partition(":")[0]
    return (
        f"sanderling image build --name {shlex.quote(name.lower())} --script score.py "
        f"--env myenv.yml --model {shlex.quote(model_id)}"
    )


def create_device() -> str:
    return "sanderling device create press-4"


def deploy(image_id: str = "digits:1", device: str = "DEVICE") -> str:
    return f"sanderling deploy --image {shlex.quote(image_id)} --device {shlex.quote(device)}"


def connection_string(device: str) -> str:
    return f"sanderling device connection-string {shlex.quote(device)} --to connection-string.txt"


def fetch_ca(url: str) -> str:
    return f"curl --insecure --output ca.pem {shlex.quote(f'{url}/.well-known/sanderling/ca.pem')}"


def edge_run() -> str:
    return "sanderling edge run --connection-string-file connection-string.txt --ca ca.pem"
