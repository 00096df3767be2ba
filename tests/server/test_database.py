import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from sanderling.errors import Invalid
from sanderling.server.database import DataFolder, DataFolderInUse, open_database
from sanderling.server.seal import Seal


def test_the_database_is_durable_and_checks_its_references(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "test.db")
    with engine.connect() as connection:
        read = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert (tmp_path / "test.db").stat().st_mode & 0o777 == 0o600
    engine.dispose()


def test_transactions_that_read_and_then_write_wait_for_each_other(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "test.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(20):
            with engine.begin() as connection:
                n = connection.execute(text("SELECT n FROM counter")).scalar_one()
                connection.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() == 80
    engine.dispose()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "test.db")
    with engine.begin() as writer:
        writer.execute(text("CREATE TABLE t (n INTEGER)"))
    with engine.begin() as writer:
        writer.execute(text("INSERT INTO t VALUES (1)"))
        with engine.connect() as reader:
            assert reader.execute(text("SELECT count(*) FROM t")).scalar_one() == 0
    engine.dispose()


def test_a_change_that_fails_is_rolled_back(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "test.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))

    def fail_half_way() -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 0
    engine.dispose()


def test_a_data_folder_is_held_by_one(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path / "data"), DataFolder(tmp_path / "data")
    first.acquire()
    first.acquire()
    with pytest.raises(DataFolderInUse, match="in use by process"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_what_is_sealed_is_hidden_and_needs_its_key(tmp_path: Path) -> None:
    seal = Seal(tmp_path / "key")
    sealed = seal.seal(b"password")
    assert b"password" not in sealed
    assert Seal(tmp_path / "key").unseal(sealed) == b"password"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Invalid, match="does not fit"):
        Seal(tmp_path / "another").unseal(sealed)
    (tmp_path / "key").write_text("broken")
    with pytest.raises(Invalid, match="restore it"):
        Seal(tmp_path / "key")
