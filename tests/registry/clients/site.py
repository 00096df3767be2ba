"""A registry as its users meet it: a process of its own, over TLS with its own authority, with credentials."""

import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from tests.registry_process import running_registry

from sanderling.registry import RegistryCredentials, Scope
from sanderling.server.database import REGISTRY_DATABASE, open_database
from sanderling.server.seal import Seal

# No resolver knows it (RFC 6761), and Docker does not trust it blindly as it does 127.0.0.1.
NAME = "registry.test"
WORKSPACE = "demo"


@dataclass(frozen=True)
class Site:
    """A running registry, its authority, the password of `admin`, and that of the workspace `demo`."""

    port: int
    ca: Path
    credentials: RegistryCredentials
    password: str
    demo_password: str

    user = "admin"

    @property
    def address(self) -> str:
        """Where clients of this machine reach it."""
        return f"127.0.0.1:{self.port}"

    @property
    def named_address(self) -> str:
        """The same by its name, through `proxied`."""
        return f"{NAME}:{self.port}"

    def new_user(self) -> tuple[str, str]:
        """Return name and password of the admin user of another workspace: whom no other test makes wait."""
        admin = self.credentials.set_admin_enabled(f"w{secrets.token_hex(4)}", True)
        return admin.username, admin.passwords[0]

    def token(self, repositories: str, *actions: str, ttl_s: float = 60) -> str:
        """Return a short-lived password of the user `device`; with a negative *ttl_s* it has expired."""
        return self.credentials.issue("device", [Scope.of(repositories, *actions)], ttl_s)

    def http(self) -> httpx.Client:
        """Return a client that trusts the authority and is signed in."""
        trusting = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(
            base_url=f"https://{self.address}", verify=trusting, auth=(self.user, self.password), trust_env=False
        )


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start the registry on a free port of the loopback with all that it keeps in *folder*; stop it at the end."""
    with running_registry(folder / "root", "--host-name", NAME) as registry:
        # What no command issues, tokens of any life, comes from the same database.
        seal = Seal(registry.root / "secrets" / "seal.key")
        engine = open_database(registry.root / REGISTRY_DATABASE)
        credentials = RegistryCredentials(engine, seal.seal, seal.unseal)
        demo = credentials.set_admin_enabled(WORKSPACE, True)
        port = urlsplit(registry.told["url"]).port or 443
        yield Site(port, Path(registry.told["ca"]), credentials, registry.password, demo.passwords[0])
        engine.dispose()
        registry.stop()
        assert registry.process.returncode == 0, registry.log.read_text()
        assert "Traceback" not in registry.log.read_text(), registry.log.read_text()
