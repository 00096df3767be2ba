"""What goes wrong between us and a registry, each with its facts as attributes.

    Unavailable ── Unreachable ── NotTrusted
                └─ Faulty                      it answers, but not what was asked for: 5xx, 429, nonsense
    Denied ─────── SignInNeeded                no credential, and it asks for one
                ├─ SignInRefused               a credential that it does not take
                └─ RightMissing                known, and may not
    NotFound ───── ManifestNotFound, BlobNotFound, Missing
    Invalid ────── LengthMismatch              content is longer or shorter than was promised
                ├─ Damaged                     a place keeps other content than it says
                ├─ Refused                     any other 4xx; 409 is a Conflict
                └─ Insecure                    would send what is secret, or what is fetched, in the open

A caller that knows a better way out (which file, which option) catches the class
and says so.
"""

from sanderling.errors import Denied, Invalid, NotFound, Unavailable


class Unreachable(Unavailable):
    """No answer came from the registry at all."""

    def __init__(self, registry: str, what: str, reason: str) -> None:
        super().__init__(f"{what} failed: the registry {registry} cannot be reached: {reason}; is it running?")
        self.registry, self.reason = registry, reason


class NotTrusted(Unreachable):
    """The registry's certificate is signed by nobody we know, or is for another name."""

    def __init__(self, registry: str, what: str, reason: str) -> None:
        super().__init__(registry, what, reason)
        self.args = (
            f"{what} failed: the registry {registry} cannot be reached: its certificate is not trusted "
            f"({reason}); give the CA that signed it",
        )


class Faulty(Unavailable):
    """The registry answers with *status*, and not with what was asked for."""

    def __init__(
        self, registry: str, what: str, reason: str, status: int | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(f"registry {registry}: {what} failed: {reason}; try again later")
        self.registry, self.reason, self.status, self.retry_after_s = registry, reason, status, retry_after_s


class SignInNeeded(Denied):
    """The registry asks for credentials, and none were given."""

    def __init__(self, registry: str, repository: str) -> None:
        super().__init__(f"the registry {registry} asks for credentials for {repository}, and none are known")
        self.registry, self.repository = registry, repository


class SignInRefused(Denied):
    """The registry knows no such user, or not with this password; *username* is None for a token."""

    def __init__(self, registry: str, repository: str, username: str | None) -> None:
        whose = "the token" if username is None else f"the credentials of user {username!r}"
        super().__init__(f"the registry {registry} refused {whose} for {repository}")
        self.registry, self.repository, self.username = registry, repository, username


class RightMissing(Denied):
    """The registry knows the caller, who has no right for this."""

    def __init__(self, registry: str, repository: str, what: str, text: str) -> None:
        super().__init__(f"the registry {registry} gives no right in {repository}: {what} was refused: {text}")
        self.registry, self.repository = registry, repository


class ManifestNotFound(NotFound):
    """The registry has no such tag, or no manifest of this digest there."""

    def __init__(self, registry: str, repository: str, reference: str) -> None:
        mark = "@" if ":" in reference else ":"
        super().__init__(
            f"image {registry}/{repository}{mark}{reference} was not found in the registry; was it pushed there?"
        )
        self.registry, self.repository, self.reference = registry, repository, reference


class BlobNotFound(NotFound):
    """The registry lacks content that a manifest of it may name."""

    def __init__(self, registry: str, repository: str, digest: str) -> None:
        super().__init__(f"the registry {registry} lacks the content {digest} of {repository}; push it again")
        self.registry, self.repository, self.digest = registry, repository, digest


class Missing(NotFound):
    """The registry knows nothing of what was asked for: a repository, or an upload that it has forgotten."""

    def __init__(self, registry: str, what: str, text: str) -> None:
        super().__init__(f"registry {registry}: {what}: {text}")
        self.registry = registry


class LengthMismatch(Invalid):
    """Content has another length than its descriptor says; *actual* is how much was seen."""

    def __init__(self, *, what: str, expected: int, actual: int) -> None:
        how = (
            f"is longer than the {expected} bytes" if actual > expected else f"ends at byte {actual} of the {expected}"
        )
        super().__init__(f"the content {what} {how} that were promised: it is damaged")
        self.expected, self.actual = expected, actual


class Damaged(Invalid):
    """What *place* keeps under *digest* is other content; nothing of it was published."""

    def __init__(self, place: str, digest: str, reason: str) -> None:
        super().__init__(f"{place}: {digest} is damaged there: {reason}; nothing was published")
        self.place, self.digest = place, digest


class Refused(Invalid):
    """The registry answered *status* to *what*: asking again will not help."""

    def __init__(self, registry: str, what: str, status: int, text: str) -> None:
        super().__init__(f"registry {registry}: {what} was refused (HTTP {status}): {text}")
        self.registry, self.status = registry, status


class Insecure(Invalid):
    """The registry sends us where it is not encrypted; nothing was sent there."""

    def __init__(self, registry: str, where: str) -> None:
        super().__init__(
            f"the registry {registry} is https and sends us to {where}, which is not encrypted: refused; "
            "its configured external address is probably wrong"
        )
        self.registry = registry
