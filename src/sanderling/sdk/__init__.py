"""The Python client: workspaces, models, images, devices, deployments and messages of a server.

    from sanderling import Deployment, Device, Image, Model, Workspace

    ws = Workspace.from_config()
    model = Model.register(workspace=ws, model_path="model.pkl", model_name="digits")
    image = Image.create(ws, "digits", script="score.py", environment="myenv.yml", models=[model]).wait()
    device = Device.create(ws, "press-4")
    Deployment(image, host_port=5001).apply(device)

It speaks the server's public HTTP API and nothing else.
"""

from sanderling.sdk.deployment import Deployment, ManifestDeployment
from sanderling.sdk.deployment_wait import DeploymentFailed
from sanderling.sdk.device import Device
from sanderling.sdk.image import BuildFailed, Image, LogEvent
from sanderling.sdk.image_attachments import (
    ImageAttachment,
    NotVerified,
    Verification,
    list_attachments,
    read_attachment,
    verify_image,
)
from sanderling.sdk.image_copy import ImageCopy, Side, copy_image
from sanderling.sdk.messages import Message, Messages
from sanderling.sdk.model import Model
from sanderling.sdk.registry import Credentials, Registry
from sanderling.sdk.registry_auth import RegistryAccount
from sanderling.sdk.registry_tokens import IssuedToken, RegistryLogin, RegistryToken, RegistryTokens
from sanderling.sdk.reports import ModuleState
from sanderling.sdk.signing_key import SigningKeyInfo
from sanderling.sdk.workspace import Workspace

__all__ = [
    "BuildFailed",
    "Credentials",
    "Deployment",
    "DeploymentFailed",
    "Device",
    "Image",
    "ImageAttachment",
    "ImageCopy",
    "IssuedToken",
    "LogEvent",
    "ManifestDeployment",
    "Message",
    "Messages",
    "Model",
    "ModuleState",
    "NotVerified",
    "Registry",
    "RegistryAccount",
    "RegistryLogin",
    "RegistryToken",
    "RegistryTokens",
    "Side",
    "SigningKeyInfo",
    "Verification",
    "Workspace",
    "copy_image",
    "list_attachments",
    "read_attachment",
    "verify_image",
]
