"""The key that a workspace's images are signed with; its public half, which is for everybody who checks."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter

from sanderling.server.api.depends import PartsDep, Shape, WorkspaceDep

router = APIRouter(prefix="/workspaces/{ws}/signing-key", tags=["images"])


class SigningKeyShape(Shape):
    """publicKey: PEM, as openssl and cosign take it. keyId: the SHA-256 of its DER form in base64, as sigstore's."""

    public_key: str
    key_id: str
    algorithm: Literal["ecdsa-p256-sha256"] = "ecdsa-p256-sha256"
    created_at: datetime


@router.get("")
def get_signing_key(parts: PartsDep, ws: WorkspaceDep) -> SigningKeyShape:
    """Show the public key of the workspace; it is made when first asked for."""
    parts.workspaces.get(ws)
    return SigningKeyShape.model_validate(parts.signing_keys.ensure(ws))
