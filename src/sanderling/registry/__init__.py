"""The registry: the OCI distribution protocol over SQL and the blobs port, and its credentials.

    protocol    the distribution protocol over HTTP: routes, endpoints, refusals
    access      admin users, named tokens, devices, short-lived tokens, rights, throttle
    content     what repositories hold: writes, listings
    upstream    other registries, pulled through and kept
    space       garbage collection, retention rules, quotas

Everything durable is in SQL and in the blob store. Source: distribution-spec 1.1.
"""

from sanderling.registry.access.admins import AdminUser
from sanderling.registry.access.credentials import Authorizer, RegistryCredentials
from sanderling.registry.access.devices import Devices, DeviceStanding
from sanderling.registry.access.named_tokens import IssuedToken, NamedToken, NamedTokens
from sanderling.registry.access.rights import Principal, Proof, Scope
from sanderling.registry.access.throttle import Slowed
from sanderling.registry.content.listings import ImageInfo, TagInfo
from sanderling.registry.errors import ManifestNotFound, RepositoryNotFound
from sanderling.registry.registry import Registry
from sanderling.registry.space.companions import is_companion
from sanderling.registry.space.quota import QuotaExceeded, RepositoryUsage, Usage
from sanderling.registry.space.report import Gone, Report
from sanderling.registry.space.rules import Rule
from sanderling.registry.space.space import CollectionRuns
from sanderling.registry.upstream.configured import parse_upstream, read_upstreams
from sanderling.registry.upstream.rules import Upstream
from sanderling.registry.upstream.stored import FixedUpstreams, StoredUpstreams, UpstreamNotFound

__all__ = [
    "AdminUser",
    "Authorizer",
    "CollectionRuns",
    "DeviceStanding",
    "Devices",
    "FixedUpstreams",
    "Gone",
    "ImageInfo",
    "IssuedToken",
    "ManifestNotFound",
    "NamedToken",
    "NamedTokens",
    "Principal",
    "Proof",
    "QuotaExceeded",
    "Registry",
    "RegistryCredentials",
    "Report",
    "RepositoryNotFound",
    "RepositoryUsage",
    "Rule",
    "Scope",
    "Slowed",
    "StoredUpstreams",
    "TagInfo",
    "Upstream",
    "UpstreamNotFound",
    "Usage",
    "is_companion",
    "parse_upstream",
    "read_upstreams",
]
