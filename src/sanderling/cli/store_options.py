"""The options that say where layers are kept, for every command that starts a registry."""

from typing import Annotated

import typer

Blobs = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Where layers are kept: s3://BUCKET/PREFIX or a folder; the data folder if none is given.",
    ),
]
BlobsEndpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="The S3-compatible store; AWS_ENDPOINT_URL if none is given.")
]
BlobsRegion = Annotated[
    str | None, typer.Option(metavar="NAME", help="The store's region; AWS_REGION if none is given.")
]
BlobsPlainHttp = Annotated[
    bool, typer.Option("--blobs-plain-http", help="Allow an http:// endpoint that is not on this machine.")
]
