"""Steps 1 to 5: the server, the model, the image, the registry's credentials."""

from sanderling.demo.children import wait_until
from sanderling.demo.scene import Scene
from sanderling.demo.training import Training
from sanderling.errors import SanderlingError
from sanderling.sdk.client import Client
from sanderling.sdk.image import Image
from sanderling.sdk.model import Model
from sanderling.sdk.workspace import Workspace

WORKSPACE = "demo"
MODEL = "digits"
START_S = 60.0
BUILD_S = 900.0


def start_server(scene: Scene) -> Client:
    """Start `sanderling up` behind the relay and return a client that talks to it directly."""
    folders, ports = scene.folders, scene.ports
    scene.children.start(
        "server",
        [
            "up",
            *("--data", str(folders.server), "--host", "127.0.0.1"),
            *("--port", str(ports.https), "--mqtt-port", str(ports.mqtt)),
            *("--public-url", f"https://localhost:{ports.relay_https}", "--public-mqtt-port", str(ports.relay_mqtt)),
        ],
    )
    secrets = (folders.ca, folders.token)
    wait_until("the server's CA and token", lambda: all(file.exists() for file in secrets), scene.children, START_S)
    client = Client(f"https://127.0.0.1:{ports.https}", token=folders.token.read_text().strip(), ca_file=folders.ca)
    wait_until("the server's answer", lambda: _is_healthy(client), scene.children, START_S)
    link = client.call("POST", "/api/v1/sign-in-links")
    scene.say(f"portal     {link['url']}  (works once)")
    scene.say(f"registry   localhost:{ports.relay_https}")
    scene.say(f"MQTT       localhost:{ports.relay_mqtt}, over TLS")
    scene.say(f"CA         {folders.ca}")
    return client


def register_model(scene: Scene, client: Client, training: Training) -> Model:
    """Register model.pkl as the next version."""
    workspace = Workspace.create(WORKSPACE, client=client, exist_ok=True)
    model = Model.register(
        workspace,
        training.model,
        MODEL,
        tags={"data": "uci-digits", "framework": "scikit-learn"},
        description="Handwritten digits, 8 by 8 points",
    )
    scene.say(f"model {model.id} in workspace {workspace.name}, {model.size_bytes:,} bytes")
    return model


def build_image(scene: Scene, training: Training, model: Model) -> Image:
    """Build the image for this machine's CPU and push it, with the log as it goes."""
    image = Image.create(
        model.workspace,
        MODEL,
        script=training.script,
        environment=training.environment,
        models=[model],
        tags={"data": "uci-digits"},
        description="Scores handwritten digits",
    )
    with scene.show_build() as show:
        image = image.wait(on_event=show, timeout_s=BUILD_S)
    scene.say(f"image {image.location}, {(image.size_bytes or 0) / 1e6:.1f} MB, {', '.join(image.platforms)}")
    scene.say(f"{image.digest}")
    return image


def show_credentials(scene: Scene, model: Model) -> None:
    """Switch the registry's admin user on and show what `docker login` takes. Devices need none of it."""
    credentials = model.workspace.registry.enable_admin()
    scene.say(f"login server  {credentials.login_server}")
    scene.say(f"user name     {credentials.username}")
    for name, value in credentials.passwords.items():
        scene.say(f"{name:<13} {value}")
    scene.say("for docker login; the device signs in with its own identity, and may pull what it is to run")


def _is_healthy(client: Client) -> bool:
    try:
        client.call("GET", "/healthz", timeout_s=5)
    except SanderlingError:
        return False
    return True
