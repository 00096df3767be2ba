"""The composition root: settings, TLS, database, access control and the public API over the joined stages.

`run(settings, ready)` is what `sanderling up` calls.
"""

from sanderling.server.run import ServerInfo, run
from sanderling.server.settings import ServerSettings

__all__ = ["ServerInfo", "ServerSettings", "run"]
