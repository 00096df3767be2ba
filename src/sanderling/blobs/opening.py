"""From what the user says of a place to a store of blobs that was tried out."""

import ipaddress
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sanderling.blobs.files import FileBlobs
from sanderling.blobs.port import BlobStore
from sanderling.blobs.writer import ensure_folder, medium_errors
from sanderling.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Store

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; older buckets have capitals and "_"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.=@-]+(/[A-Za-z0-9_.=@-]+)*")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_SECRETS: tuple[tuple[Literal["access_key_id", "secret_access_key", "session_token"], str], ...] = (
    ("access_key_id", "AWS_ACCESS_KEY_ID"),
    ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("session_token", "AWS_SESSION_TOKEN"),
)
_OTHER_KEYS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
)
TRIALS = "trial"
_WAY_OUT = "give it as s3://bucket or s3://bucket/prefix"


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where blobs are kept: a folder, or `s3://bucket/prefix` with what leads there.

    endpoint: the address of the store; None is AWS_ENDPOINT_URL, or Amazon's own.
    region: None is AWS_REGION, or us-east-1.
    allows_plain_http: let an endpoint be http:// though it is not on this machine.
    """

    location: str
    endpoint: str | None = None
    region: str | None = None
    allows_plain_http: bool = False

    @property
    def is_bucket(self) -> bool:
        """Say whether it is a bucket of an object store."""
        return self.location.startswith("s3://")


def open_store(
    place: StorePlace, *, temporary: Path | None = None, environment: Mapping[str, str] = os.environ
) -> BlobStore:
    """Return the store of blobs at *place*. Blocks: a bucket is tried out with a small object.

    Keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or what else an
    Amazon machine offers), and so does AWS_CA_BUNDLE. *temporary* is a folder on a disk for what waits to be sent.
    Raises `Invalid` when place, bucket or key are wrong, `Unavailable` when the store does not answer.
    """
    if not place.is_bucket:
        if "://" in place.location:
            raise Invalid(f"blobs at {place.location!r}: only folders and s3:// are known; {_WAY_OUT}")
        return FileBlobs(Path(place.location))
    # Here, for it takes its time and only those who use it shall pay.
    from sanderling.blobs.bucket import Bucket
    from sanderling.blobs.objects import ObjectBlobs

    bucket, prefix = _parse(place.location)
    endpoint = _endpoint(place, environment)
    name = f"{place.location} at {endpoint}" if endpoint else place.location
    has_create_only = _try_out(_connect(place, bucket, prefix, endpoint, environment, is_trial=True), bucket, name)
    store = _connect(place, bucket, prefix, endpoint, environment)
    if temporary is not None:
        with medium_errors(temporary):
            ensure_folder(temporary)
    return ObjectBlobs(Bucket(store, name, has_create_only=has_create_only), temporary)


def _parse(location: str) -> tuple[str, str]:
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise Invalid(f"blobs at {location!r}: {bucket!r} is not a bucket's name; {_WAY_OUT}")
    if prefix and (not _PREFIX.fullmatch(prefix) or ".." in prefix.split("/") or "." in prefix.split("/")):
        raise Invalid(f"blobs at {location!r}: {prefix!r} is not a prefix: letters, digits, - _ . = @ and / go")
    return bucket, prefix


def _endpoint(place: StorePlace, environment: Mapping[str, str]) -> str | None:
    """Return the endpoint, or None for Amazon's; raise `Invalid` when it must not be used."""
    given = place.endpoint or next((environment[name] for name in _ENDPOINTS if environment.get(name)), None)
    if given is None:
        return None
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host:
        raise Invalid(
            "the endpoint of the object store is not an address: give it as https://name or https://name:port"
        )
    if parts.username is not None:
        raise Invalid("the endpoint of the object store must not hold a user name: keys come from the environment")
    if parts.scheme == "http" and not place.allows_plain_http and not _is_loopback(host):
        raise Invalid(
            f"the endpoint {given} is not encrypted: use https://, or allow it with --blobs-plain-http "
            "when the network between is yours alone"
        )
    return given.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_key(environment: Mapping[str, str]) -> bool:
    """Say whether there is a key, or another way to get one that was meant. A machine of Amazon's has one by itself."""
    key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    return all(key) or any(environment.get(name) for name in _OTHER_KEYS)


def _connect(
    place: StorePlace,
    bucket: str,
    prefix: str,
    endpoint: str | None,
    environment: Mapping[str, str],
    *,
    is_trial: bool = False,
) -> "S3Store":
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    if endpoint is not None and not _has_key(environment):
        raise Invalid(f"no key for the object store {endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    config: S3Config = {}
    for setting, variable in _SECRETS:
        if environment.get(variable):
            config[setting] = environment[variable]
    if endpoint is not None:
        # Both: of the two in the environment the first one counts.
        config["endpoint"] = config["aws_endpoint_url_s3"] = endpoint
    # TLS vouches for the bytes already; hashing them once more for the signature would halve the rate.
    config["unsigned_payload"] = endpoint is None or endpoint.startswith("https:")
    region = place.region or next((environment[name] for name in _REGIONS if environment.get(name)), None)
    config["region"] = region or "us-east-1"
    client: ClientConfig = {
        "allow_http": endpoint is not None and endpoint.startswith("http:"),
        "connect_timeout": timedelta(seconds=5),
        # Of a whole request: a large blob takes as long as its reader does. Silence is what ends a request.
        "timeout": timedelta(seconds=10) if is_trial else timedelta(days=1),
        "read_timeout": timedelta(seconds=10) if is_trial else timedelta(minutes=5),
    }
    if environment.get("AWS_CA_BUNDLE"):
        try:
            client["root_certificate"] = Path(environment["AWS_CA_BUNDLE"]).read_bytes()
        except OSError as e:
            raise Invalid(f"AWS_CA_BUNDLE={environment['AWS_CA_BUNDLE']} cannot be read: {e.strerror}") from e
    retries = 0 if is_trial else 3
    retry_timeout = timedelta(seconds=20)
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": retries, "retry_timeout": retry_timeout},
        )
    except (BaseError, ValueError) as e:
        raise Invalid(f"blobs at {place.location}: the settings of the object store cannot be used") from e


def _try_out(store: "S3Store", bucket: str, name: str) -> bool:
    """Put, read and remove a small object; say whether the store knows create-only puts."""
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    from sanderling.blobs.bucket import reason

    key = f"{TRIALS}/{uuid.uuid4().hex}"
    try:
        obstore.put(store, key, b"1", use_multipart=False)
        has_create_only = _has_create_only(store, key)
        obstore.get(store, key).bytes()
        obstore.delete(store, key)
    except (PermissionDeniedError, UnauthenticatedError) as e:
        raise Invalid(
            f"the object store {name} refuses the key ({reason(e)}): "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be of one who may list, read, write and delete there"
        ) from None
    except FileNotFoundError as e:
        raise Invalid(
            f"the object store {name} has no bucket {bucket!r} ({reason(e)}): make it, or name another"
        ) from None
    except (BaseError, OSError, ValueError) as e:
        failed = Unavailable(
            f"the object store {name}: {reason(e)}; are --blobs-endpoint (or AWS_ENDPOINT_URL) and the region right?"
        )
        failed.add_note("the same command, once the store answers")
        raise failed from None
    return has_create_only


def _has_create_only(store: "S3Store", key: str) -> bool:
    """Try to create what is there: some stores do not look, some do not know how to."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        obstore.put(store, key, b"2", mode="create")
    except AlreadyExistsError:
        return True
    except BaseError:
        return False
    return False
