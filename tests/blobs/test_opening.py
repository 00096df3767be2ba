"""From what a user says to a store: what is wrong is named, with the way out, and without a secret."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.worlds import keep
from tests.s3 import BUCKET, S3Server, s3_server

from sanderling.blobs import BlobInfo, FileBlobs, StorePlace, open_store
from sanderling.errors import Invalid, SanderlingError, Unavailable
from sanderling.server.tls import ensure_tls, utc_now

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "top-secret"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_a_folder_is_a_store_of_files(tmp_path: Path) -> None:
    store = open_store(StorePlace(str(tmp_path / "blobs")))
    assert isinstance(store, FileBlobs)
    assert (tmp_path / "blobs").is_dir()


def test_trying_a_bucket_out_leaves_nothing_in_it(s3: S3Server) -> None:
    s3.open("tried")
    assert not [path for path in s3.root.rglob("*") if path.is_file()]


def test_options_come_before_the_environment(s3: S3Server) -> None:
    environment = {**s3.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "nowhere"}
    open_store(StorePlace(f"s3://{BUCKET}", endpoint=s3.endpoint, region="us-east-1"), environment=environment)


@pytest.mark.parametrize(
    ("changed", "location", "said"),
    [
        ({}, "s3://no-such-bucket/x", "has no bucket 'no-such-bucket'"),
        ({"AWS_ACCESS_KEY_ID": "AKIDWRONG"}, f"s3://{BUCKET}", "refuses the key .InvalidAccessKeyId."),
        ({"AWS_SECRET_ACCESS_KEY": "top-secret"}, f"s3://{BUCKET}", "refuses the key .SignatureDoesNotMatch."),
    ],
)
def test_a_wrong_bucket_or_key_is_named(s3: S3Server, changed: dict[str, str], location: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        open_store(StorePlace(location), environment={**s3.environment, **changed})
    assert_no_secret(refused.value, s3.secret)


def test_an_endpoint_that_does_not_answer_is_named() -> None:
    environment = {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with pytest.raises(
        Unavailable, match=r"http://127\.0\.0\.1:1: it cannot be reached; are --blobs-endpoint"
    ) as refused:
        open_store(StorePlace("s3://bucket"), environment=environment)
    assert_no_secret(refused.value, KEYS["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://192.0.2.1:9000", "is not encrypted: use https://, or allow it with --blobs-plain-http"),
        ("http://minio.example", "is not encrypted"),
        ("ftp://x", "is not an address"),
        ("minio.example", "is not an address"),
        ("https://x:port", "is not an address"),
        ("https://user:top-secret@minio.example", "must not hold a user name"),
    ],
)
def test_an_endpoint_that_must_not_be_used_is_refused(endpoint: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        open_store(StorePlace("s3://bucket", endpoint=endpoint), environment=KEYS)
    assert_no_secret(refused.value, KEYS["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.parametrize(
    "location",
    [
        "s3://",
        "s3://a",
        "s3://a b",
        "s3:///x",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/a?b",
        "gs://bucket",
    ],
)
def test_what_is_no_place_is_refused(location: str) -> None:
    with pytest.raises(Invalid, match="s3://"):
        open_store(StorePlace(location), environment=KEYS)


@pytest.mark.parametrize("given", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OTHER"])
def test_half_a_key_is_none(given: str) -> None:
    environment = {given: "x", "AWS_ENDPOINT_URL": "http://localhost:1"}
    with pytest.raises(Invalid, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store(StorePlace("s3://bucket"), environment=environment)


def test_a_bundle_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Invalid, match="AWS_CA_BUNDLE=/none"):
        open_store(StorePlace("s3://bucket"), environment={**KEYS, "AWS_CA_BUNDLE": "/none"})


def test_who_does_not_use_a_bucket_does_not_pay_for_it() -> None:
    code = "import sys, sanderling.cli, sanderling.server; sys.exit('obstore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def assert_no_secret(error: SanderlingError, secret: str) -> None:
    assert secret not in error.message
    assert error.__cause__ is None


def test_a_store_with_an_authority_of_its_own_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    tls = ensure_tls(tmp_path / "tls", ("127.0.0.1",), utc_now())
    with s3_server(tmp_path, (tls.certificate, tls.key)) as s3:
        place = StorePlace(f"s3://{BUCKET}/site")
        with pytest.raises(Unavailable, match="it cannot be reached"):
            open_store(place, environment=s3.environment)
        store = open_store(place, environment={**s3.environment, "AWS_CA_BUNDLE": str(tls.ca)})
        digest = asyncio.run(keep(store, b"kept " * 2_000_000))
        assert asyncio.run(store.stat(digest)) == BlobInfo(digest, 10_000_000)
