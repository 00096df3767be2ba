"""One tree of errors, sorted by what the caller can do about them.

    SanderlingError
    ├── NotFound      what was named is not there: name another, or make it
    ├── Conflict      it is there already, or changed meanwhile: look again
    ├── Invalid       what was given cannot be: mend it
    ├── Denied        not known, or not allowed: sign in, or ask for the right
    └── Unavailable   not now: try again (the only one worth a retry)

Rooms raise these or subclasses that carry facts as attributes. Each edge (HTTP
status, OCI error code, MQTT return code, exit code of the command line) turns
them into its own words in one table.

A message names the thing and the way out, and never holds a secret.
"""


class SanderlingError(Exception):
    """What all errors that we raise on purpose have in common: a message for people."""

    @property
    def message(self) -> str:
        """The sentence for the user."""
        return str(self.args[0]) if self.args else type(self).__name__


class NotFound(SanderlingError):
    """What was named is not there."""


class Conflict(SanderlingError):
    """It is there already, or it changed since the caller looked."""


class Invalid(SanderlingError):
    """What was given can never be accepted as it is."""


class Denied(SanderlingError):
    """The caller is not known, or is known and may not do this."""


class Unavailable(SanderlingError):
    """It cannot be done now and may work later."""
