import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, create_engine, event, select

from sanderling.image.supply_chain.signing_keys import SigningKeys, keys
from sanderling.signatures.keys import PublicKey, SigningKey


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = create_engine(f"sqlite:///{tmp_path / 'db'}", connect_args={"timeout": 20})
    event.listen(made, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode=WAL"))
    return made


@pytest.fixture
def fernet() -> Fernet:
    return Fernet(Fernet.generate_key())


def test_a_workspaces_key_is_made_once_and_is_its_own(engine: Engine, fernet: Fernet) -> None:
    made = SigningKeys(engine, fernet.encrypt, fernet.decrypt)
    first, other = made.ensure("demo"), made.ensure("other")
    assert SigningKeys(engine, fernet.encrypt, fernet.decrypt).ensure("demo") == first
    assert first.key_id != other.key_id
    private = SigningKey.from_pem(made.private_pem("demo").encode())
    assert PublicKey.parse(first.public_key.encode()).verify(b"data", private.sign(b"data"))
    engine.dispose()


def test_the_database_alone_signs_nothing(engine: Engine, fernet: Fernet) -> None:
    made = SigningKeys(engine, fernet.encrypt, fernet.decrypt)
    pem = made.private_pem("demo").encode()
    with engine.connect() as connection:
        row = connection.execute(select(keys)).one()
    assert b"PRIVATE" not in row.private_key
    assert pem.splitlines()[1] not in row.private_key
    assert fernet.decrypt(row.private_key) == pem
    engine.dispose()


def test_whoever_asks_first_at_the_same_moment_all_get_one_key(engine: Engine, fernet: Fernet) -> None:
    made = SigningKeys(engine, fernet.encrypt, fernet.decrypt)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(made.ensure("demo").key_id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    engine.dispose()
