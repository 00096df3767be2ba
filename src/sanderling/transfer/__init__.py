"""Moves images between places: registries, folders, tar files. Asynchronous; light, for it ships on devices.

What is promised:

- **A credential goes to the registry it is for**, and to the token service that
  this registry names; never along a redirect to another host, never in the open
  when the registry is https, never into a log, an URL or a message.
- **What arrives is what its digest says**, or an error; what is sent was verified.
- **A cut is taken up** where it was: downloads by range, uploads by the registry's
  own count. What may work later is tried again, with pauses, and as the registry
  asks (`Retry-After`); then it is `Unavailable`.
- **Whatever a peer or a file says is bounded**: sizes, depths, pages, redirects.
- **A tag or name points at content that is whole**: manifests go last.

    Credential(username, password)
    RegistryClient(registry, repository, credential, tls=, is_plain_http=, token=)
        fetch_manifest  find_manifest  push_manifest
        open_blob  stream_blob  has_blob  push_blob
        tags  referrers
    places.Place: LayoutPlace, OciArchivePlace, DockerArchivePlace, RegistryPlace; places.Address, place_of
    close_cancelled(client): an `httpx.AsyncClient` for callers who may be cancelled
    copying.copy(source, target, [(reference, name)], platform=, referrers=, expected=, progress=)

Errors are those of `sanderling.errors`; `sanderling.transfer.errors` lists the
subclasses with their facts, for callers that know a better way out.

Sources: OCI distribution-spec and image-spec 1.1; the distribution project's token
authentication; RFC 9110.
"""

from sanderling.transfer.client import RegistryClient
from sanderling.transfer.errors import (
    BlobNotFound,
    Damaged,
    Faulty,
    Insecure,
    LengthMismatch,
    ManifestNotFound,
    Missing,
    NotTrusted,
    Refused,
    RightMissing,
    SignInNeeded,
    SignInRefused,
    Unreachable,
)
from sanderling.transfer.exchange import Patience, is_loopback
from sanderling.transfer.files import read_file
from sanderling.transfer.handshakes import close_cancelled
from sanderling.transfer.sign_in import Credential
from sanderling.transfer.together import all_of

__all__ = [
    "BlobNotFound",
    "Credential",
    "Damaged",
    "Faulty",
    "Insecure",
    "LengthMismatch",
    "ManifestNotFound",
    "Missing",
    "NotTrusted",
    "Patience",
    "Refused",
    "RegistryClient",
    "RightMissing",
    "SignInNeeded",
    "SignInRefused",
    "Unreachable",
    "all_of",
    "close_cancelled",
    "is_loopback",
    "read_file",
]
