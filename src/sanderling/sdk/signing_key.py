"""The key that a workspace signs its images with: the half that everybody may know."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sanderling.sdk.wire import parse_time


@dataclass(frozen=True, slots=True)
class SigningKeyInfo:
    """A workspace's public key.

    Attributes:
        public_key: In PEM, as openssl and cosign take it.
        key_id: What sigstore calls it.
        algorithm: ecdsa-p256-sha256.
        created_time: When it was made.
    """

    public_key: str
    key_id: str
    algorithm: str
    created_time: datetime | None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SigningKeyInfo":
        """Build it from what the API says."""
        created = parse_time(values.get("createdAt"))
        return cls(str(values["publicKey"]), str(values["keyId"]), str(values["algorithm"]), created)

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "publicKey": self.public_key,
            "keyId": self.key_id,
            "algorithm": self.algorithm,
            "createdAt": self.created_time.isoformat() if self.created_time else None,
        }
