"""Faults of the database, in our own words."""

import errno

from sqlalchemy.exc import DBAPIError, OperationalError

from sanderling.blobs import StoreFull
from sanderling.errors import Unavailable

# SQLite's result codes ("Result and Error Codes"); the low byte of an extended one.
_BUSY, _LOCKED, _READ_ONLY, _IO, _FULL, _CANT_OPEN = 5, 6, 8, 10, 13, 14
_POSTGRES_FULL = {"53100", "53200"}  # disk_full, out_of_memory
# PostgreSQL's classes of errors: connections, transactions that met another, a server that stops; no code: not reached.
_POSTGRES_LATER = ("08", "40", "57P")


def translated(error: DBAPIError) -> Unavailable | None:
    """Return what *error* is to a caller; None when it is a fault of our own."""
    original = error.orig
    if isinstance(original, OSError) and original.errno == errno.ENOSPC:
        return _full()
    if getattr(original, "sqlstate", None) in _POSTGRES_FULL:
        return _full()
    if hasattr(original, "sqlstate") and isinstance(error, OperationalError):
        state: str = getattr(original, "sqlstate", None) or ""
        if not state or state.startswith(_POSTGRES_LATER):
            return Unavailable("the database does not answer, or is busy; try again")
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    if code == _FULL:
        return _full()
    if code in (_BUSY, _LOCKED):
        return Unavailable("the database is busy; try again")
    # On a full disk SQLite fails to make its shared memory with an error of input and output.
    if code in (_IO, _READ_ONLY, _CANT_OPEN) or error.connection_invalidated:
        return Unavailable("the database cannot be written or read at the moment; its disk may be full or broken")
    return None


def _full() -> StoreFull:
    return StoreFull("the database: the disk is full; free some room and try again")
