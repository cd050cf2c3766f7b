"""docs/fleet.md: its SQL in DuckDB, on files that are larger than the memory it may have."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from corelock.export.parquet import SCHEMA
from tests.fleet_page import PAGE, Fleet, statements

MEMORY_BYTES = 24_000_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    fleet = Fleet(tmp_path_factory.mktemp("hosts"), hosts=80, cycles=24_000)
    assert len(fleet.files) == 80
    assert fleet.bytes > 1.2 * MEMORY_BYTES
    return fleet


@pytest.fixture()
def database(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> duckdb.DuckDBPyConnection:
    monkeypatch.chdir(fleet.folder.parent)
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{MEMORY_BYTES}B'")
    database.execute("SET threads = 1")  # each wants some memory of its own
    database.execute(f"SET temp_directory = '{tmp_path}'")
    return database


def test_every_statement_finds_what_is_there(
    fleet: Fleet, database: duckdb.DuckDBPyConnection
) -> None:
    results = []
    for sql in statements("duckdb"):
        found = database.sql(sql)
        rows = [] if found is None else found.to_arrow_table().to_pylist()
        results.append([tuple(row.values()) for row in rows])
    *setup, complete, worst, blame, by_hour, longest = results
    assert len(setup) == 2
    fleet.check([worst, blame, by_hour, longest])
    nothing_lost = '{"ring_full":0,"not_written":0}'
    assert complete == [(host, "duration", nothing_lost, "false") for host, _, _ in fleet.hosts]


def test_the_limit_of_memory_is_one(database: duckdb.DuckDBPyConnection) -> None:
    for sql in statements("duckdb")[:2]:
        database.execute(sql)
    database.execute("SET temp_directory = ''")
    with pytest.raises(duckdb.OutOfMemoryException):
        database.execute("CREATE TABLE copy AS SELECT * FROM fleet")


def test_the_page_has_all_columns_in_their_order() -> None:
    table = PAGE.read_text().partition("## Columns")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.M)
    assert [name for cell in cells for name in re.findall("`([^`]*)`", cell)] == SCHEMA.names
