"""The key that each workspace signs its images with: made at first use, kept in SQL, its private half sealed.

Who has a copy of the database alone can sign nothing; the key that seals is a file of the server.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Column, Engine, LargeBinary, MetaData, String, Table, Text, insert, select
from sqlalchemy.exc import IntegrityError

from sanderling.image.events import now_text
from sanderling.signatures.keys import PublicKey, SigningKey

metadata = MetaData()

keys = Table(
    "image_signing_keys",
    metadata,
    Column("workspace", String(64), primary_key=True),
    Column("private_key", LargeBinary, nullable=False),  # PEM, sealed
    Column("public_key", Text, nullable=False),  # PEM
    Column("created_at", String(40), nullable=False),
)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What everybody may know of a workspace's key: PEM, the name sigstore gives it, and since when it is."""

    public_key: str
    key_id: str
    created_at: str


class SigningKeys:
    """The keys of all workspaces. Methods block."""

    def __init__(self, engine: Engine, seal: Callable[[bytes], bytes], unseal: Callable[[bytes], bytes]) -> None:
        self._engine, self._seal, self._unseal = engine, seal, unseal
        metadata.create_all(engine)

    def ensure(self, workspace: str) -> KeyInfo:
        """Return the public half of the workspace's key; it is made when it is not there."""
        found = self._find(workspace)
        if found is None:
            self._make(workspace)
            found = self._find(workspace)
        assert found is not None
        return found[0]

    def private_pem(self, workspace: str) -> str:
        """Return the private half, a secret, for the process that signs. It is made when it is not there."""
        self.ensure(workspace)
        found = self._find(workspace)
        assert found is not None
        return self._unseal(found[1]).decode()

    def _find(self, workspace: str) -> tuple[KeyInfo, bytes] | None:
        query = select(keys).where(keys.c.workspace == workspace)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        key_id = PublicKey.parse(row.public_key.encode()).key_id
        return KeyInfo(row.public_key, key_id, row.created_at), row.private_key

    def _make(self, workspace: str) -> None:
        key = SigningKey.generate()
        row = {
            "workspace": workspace,
            "private_key": self._seal(key.private_pem()),
            "public_key": key.public.pem().decode(),
            "created_at": now_text(),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(keys).values(**row))
        except IntegrityError:
            return  # another made one at the same moment: that one counts
