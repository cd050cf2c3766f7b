"""docs/fleet.md in ClickHouse and Spark: ``make fleettest``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chdb.session import Session
from pyspark.sql import SparkSession

from tests.fleet_page import Fleet, statements


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("hosts"), hosts=12, cycles=6000)


@pytest.fixture(autouse=True)
def _where_the_page_is_run(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fleet.folder.parent)


def test_clickhouse(fleet: Fleet) -> None:
    setup, *queries = statements("clickhouse")
    with Session() as session:
        # It looks for files where it was started, and for tables in a database.
        session.query("CREATE DATABASE page; USE page;")
        session.query(setup.replace("'fleet/", f"'{fleet.folder}/"))
        results = [json.loads(str(session.query(sql, "JSONCompact")))["data"] for sql in queries]
    fleet.check([[[_number(value) for value in row] for row in rows] for rows in results])


def _number(value: object) -> object:
    """64-bit numbers are strings in ClickHouse's JSON."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def test_spark(fleet: Fleet, tmp_path: Path) -> None:
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.warehouse.dir", str(tmp_path))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    try:
        setup, *queries = statements("spark")
        session.sql(setup)
        results = [[tuple(row) for row in session.sql(sql).collect()] for sql in queries]
    finally:
        session.stop()
    fleet.check(results)
