"""The words of OCI images: digest, reference, descriptor, manifest, index, config.

Pure: standard library only, no clock, disk or socket. What is hashed is kept as
bytes: a manifest remembers its raw form, and parsing never writes it anew.
Fields that we do not know survive. Everything that a peer sent is bounded
(4 MiB a document, depth 32) and refused with `Invalid`.

Sources: OCI image-spec 1.1, distribution-spec 1.1, Docker image manifest
schema 2, the reference grammar of the distribution project.
"""

from sanderling.oci import media_types
from sanderling.oci.config import ImageConfig
from sanderling.oci.descriptor import Descriptor, Platform
from sanderling.oci.digest import Digest, DigestMismatch, Hasher
from sanderling.oci.document import MAX_DOCUMENT_BYTES, canonical_json, parse_document
from sanderling.oci.manifest import Index, Manifest, parse_manifest
from sanderling.oci.reference import Reference, is_repository, is_tag
from sanderling.oci.wire_errors import WireError, error_document, parse_error_document

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "Descriptor",
    "Digest",
    "DigestMismatch",
    "Hasher",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "Reference",
    "WireError",
    "canonical_json",
    "error_document",
    "is_repository",
    "is_tag",
    "media_types",
    "parse_document",
    "parse_error_document",
    "parse_manifest",
]
