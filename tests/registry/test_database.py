"""Faults of the database, as the registry's callers see them."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from sanderling.errors import Unavailable
from sanderling.registry.database import translated


def fault(url: str, statement: str = "SELECT 1") -> DBAPIError:
    with pytest.raises(DBAPIError) as raised:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            connection.execute(text(statement))
    return raised.value


def test_a_database_that_is_not_reached_is_unavailable(tmp_path: Path) -> None:
    nobody = f"postgresql+psycopg://tests@/postgres?host={tmp_path}"
    assert isinstance(translated(fault(nobody)), Unavailable)
    assert isinstance(translated(fault(f"sqlite:///{tmp_path}/none/none.db")), Unavailable)


def test_a_fault_of_our_own_is_not_hidden(tmp_path: Path) -> None:
    assert translated(fault(f"sqlite:///{tmp_path}/x.db", "SELECT nothing")) is None


def test_transactions_that_met_another_may_be_tried_again() -> None:
    class Met(Exception):
        sqlstate = "40P01"

    assert isinstance(translated(OperationalError("", {}, Met())), Unavailable)
    assert translated(OperationalError("", {}, sqlite3.OperationalError("no such table"))) is None
