"""Content-addressed bytes: a blob is found under its digest, whole and verified, or not at all.

`FileBlobs` keeps them in a folder. It has a synchronous face for workers and
implements the asynchronous port `BlobStore`, which servers use. `open_store`
opens a folder or a bucket of an S3-compatible store for that port.
"""

from sanderling.blobs.files import FileBlobs
from sanderling.blobs.opening import StorePlace, open_store
from sanderling.blobs.port import (
    BlobInfo,
    BlobNotFound,
    BlobStore,
    LocalFiles,
    ReadableUploads,
    StoredBlob,
    StoreFull,
    UploadBusy,
    UploadNotFound,
    UploadWriter,
    WrongOffset,
)
from sanderling.blobs.writer import BlobWriter

__all__ = [
    "BlobInfo",
    "BlobNotFound",
    "BlobStore",
    "BlobWriter",
    "FileBlobs",
    "LocalFiles",
    "ReadableUploads",
    "StoreFull",
    "StorePlace",
    "StoredBlob",
    "UploadBusy",
    "UploadNotFound",
    "UploadWriter",
    "WrongOffset",
    "open_store",
]
