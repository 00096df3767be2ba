"""Passwords that are made here, and what is kept or told of them. Pure but for the randomness."""

import hashlib
import hmac
import secrets

# Letters and digits only: it is pasted into shells and JSON. 52 of 62 are 309 bits.
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LENGTH = 52


def new_password() -> str:
    """Return a password that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def hash_password(key: bytes, password: str) -> str:
    """Return the hash of a password that was made here, under the registry's (sealed) key.

    Fast on purpose: slow hashes are for passwords that can be guessed. With 309 random bits
    there is nothing to try, and a client that sends its password with each request, or a
    stranger who sends wrong ones, must not cost 50 ms and 64 MiB each.
    """
    return hmac.new(key, b"password:" + password.encode(), hashlib.sha256).hexdigest()


def mark_of(key: bytes, secret: str) -> str:
    """Return what a token says of the secret it was got with: it changes with it, and tells nothing of it."""
    return hmac.new(key, b"mark:" + secret.encode(), hashlib.sha256).hexdigest()[:16]
