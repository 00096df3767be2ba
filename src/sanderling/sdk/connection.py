"""The way to a client, without what makes one slow to import.

httpx takes a third of a second to import. Objects and commands import this
file, so that `sanderling --help` and `from sanderling import Workspace` do not
wait for it.
"""

from typing import TYPE_CHECKING

from sanderling.sdk.settings import connection_to

if TYPE_CHECKING:
    from sanderling.sdk.client import Client


def connect(url: str) -> "Client":
    """Return a client for *url* with the credentials that are stored for it.

    Args:
        url: The server's address.

    Returns:
        The client; the server is not asked yet.

    Raises:
        Denied: No token is known for this server.
    """
    from sanderling.sdk.client import Client

    known = connection_to(url)
    return Client(known.url, token=known.token, ca_file=known.ca_file)
