"""Secrets that must be shown again (registry passwords) are sealed at rest with a key file."""

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from sanderling.durable import write_durably
from sanderling.errors import Invalid


class Seal:
    """Encrypts and authenticates small secrets with the key in *key_file*, made on first use (0600)."""

    def __init__(self, key_file: Path) -> None:
        if not key_file.exists():
            write_durably(key_file, Fernet.generate_key(), 0o600)
        try:
            self._fernet = Fernet(key_file.read_bytes().strip())
        except ValueError as e:
            raise Invalid(f"{key_file} is not a key: restore it from a backup") from e
        self._key_file = key_file

    def seal(self, secret: bytes) -> bytes:
        """Return *secret* so that only the holder of the key can read or change it."""
        return self._fernet.encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what was sealed; Invalid when it was sealed with another key or was changed."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as e:
            raise Invalid(f"a sealed secret does not fit the key {self._key_file}: restore both together") from e
