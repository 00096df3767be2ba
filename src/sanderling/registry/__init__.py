"""The registry: the OCI distribution protocol over SQL and the blobs port, and its credentials.

    app            routes, rights, refusals ── *_endpoint: blobs, uploads, manifests, lists, tokens
    content        what repositories hold (writes)      listings   what is listed of it (reads)
    credentials    admin users and tokens ── rights, tokens, throttle

Everything durable is in SQL and in the blob store. Source: distribution-spec 1.1.
"""

from sanderling.registry.credentials import AdminUser, Authorizer, RegistryCredentials
from sanderling.registry.errors import ManifestNotFound, RepositoryNotFound
from sanderling.registry.listings import ImageInfo, TagInfo
from sanderling.registry.registry import Registry
from sanderling.registry.rights import Principal, Scope
from sanderling.registry.throttle import Slowed

__all__ = [
    "AdminUser",
    "Authorizer",
    "ImageInfo",
    "ManifestNotFound",
    "Principal",
    "Registry",
    "RegistryCredentials",
    "RepositoryNotFound",
    "Scope",
    "Slowed",
    "TagInfo",
]
