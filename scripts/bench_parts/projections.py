"""The catalogue on MariaDB: following the log and rebuilding, beside one explicit multi-row upsert."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

import aiomysql
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from projections.catalogue import CatalogueProjection, catalogue
from projections.database import open_database
from projections.projection import discover
from projections.rebuild import Rebuild
from projections.runner import Runner
from scripts.bench_parts import worlds
from scripts.bench_parts.happenings import stored_videos
from scripts.bench_parts.processes import MIB, in_child, resident, run_loop
from scripts.bench_parts.rows import Row, Size, rate_row
from streams.background import running
from streams.codec import recorded
from streams.log import Log, open_log
from streams.settings import Settings
from tests.servers import MariaDBServer, ServerMissingError

ROWS = 500
"""Rows of the peer's statement."""

WITHIN = 300.0


def run(size: Size) -> list[Row]:
    """Live, rebuild, statements, memory."""
    events, rounds = size.of(300, 10_000, 20_000), size.of(1, 5, 7)
    with worlds.folder("projections") as place, worlds.redis(place, "everysec") as redis:
        try:
            server = MariaDBServer(place / "mariadb").start()
        except ServerMissingError as error:
            return [Row(f"projections: not measured, {error}", "—")]
        with server:
            settings = worlds.settings(place, catalogue_url=server.new_database("bench"))
            rates, statements = run_loop(_rates, settings, redis.url, server, events, rounds)
            redis.flush()
            flat = worlds.settings(place, catalogue_url=server.new_database("flat"))
            half, whole = in_child(_memory, flat, redis.url, size.of(200, 20_000, 50_000))
            ran = _version(server)
    peer = rates["peer"]
    growth = (whole - half) / MIB
    return [
        rate_row("live: the catalogue follows the log", rates["live"], peer, "rows/s", 0.15),
        rate_row("rebuild of the catalogue", rates["rebuild"], peer, "rows/s", 0.3),
        rate_row("live: all projections together", rates["all"], peer, "rows/s"),
        Row(
            f"statements that insert (`Com_insert`, {ran}) for {events:,} rows, live and rebuild",
            f"{statements['live']} and {statements['rebuild']}",
            f"{statements['peer']}",
            max(statements["live"], statements["rebuild"]) / statements["peer"],
            "≤ 2 × + 16 (one for each partition)",
            max(statements["live"], statements["rebuild"]) <= 2 * statements["peer"] + 16,
        ),
        Row(
            f"memory after {size.of(200, 20_000, 50_000):,} events, and what as many again add",
            f"{half / MIB:.0f} MiB, {growth:+.1f} MiB",
            target="< 8 MiB more",
            ok=growth < 8,
        ),
    ]


async def _rates(
    settings: Settings, redis_url: str, server: MariaDBServer, events: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    rates: dict[str, list[float]] = {"live": [], "rebuild": [], "all": [], "peer": []}
    statements: dict[str, int] = {}
    for _ in range(rounds):
        for name, found in rates.items():
            server.new_database("bench")
            async with open_log(settings, redis_url) as log, open_database(settings) as database:
                await log.redis.flushall()
                if name == "peer":
                    await _append(log, events)
                    found.append(await _peer(log, server))
                    statements[name] = -(-events // ROWS)
                    continue
                wanted = discover(settings) if name == "all" else [CatalogueProjection(settings)]
                await _made(Runner(log, database, wanted))
                await _append(log, events)
                before = await _inserts(server)
                if name == "rebuild":
                    builder = Rebuild(log, database, wanted[0])
                    began = time.perf_counter()
                    await builder.build()
                    seconds = time.perf_counter() - began
                else:
                    seconds = await _followed(Runner(log, database, wanted))
                statements[name] = await _inserts(server) - before
                found.append(events / seconds)
    return rates, statements


async def _made(runner: Runner) -> None:
    """Let the runner make its tables while the log is empty, so that later it follows and does not rebuild."""
    async with running(runner.run()), asyncio.timeout(WITHIN):
        while any(one.waiting or one.stopped for one in runner.status()):  # noqa: ASYNC110 - it has no event to tell
            await asyncio.sleep(0.01)


async def _followed(runner: Runner) -> float:
    began = time.perf_counter()
    async with running(runner.run()):
        await _applied(runner)
        return time.perf_counter() - began


async def _applied(runner: Runner) -> None:
    if not await runner.caught_up(WITHIN):
        raise RuntimeError(f"the projections did not catch up: {runner.status()}")


async def _append(log: Log, events: int, first: int = 0) -> None:
    for start in range(first, first + events, 2000):
        await log.append_all(stored_videos(min(2000, first + events - start), start), timeout=60)


async def _peer(log: Log, server: MariaDBServer) -> float:
    """Rows a second of one statement for each 500 rows, into a table with the catalogue's columns and keys."""
    rows = await _rows(log)
    names = [column.name for column in catalogue.columns]
    mark = "(" + ", ".join(["%s"] * len(names)) + ")"
    updates = ", ".join(f"`{name}` = VALUES(`{name}`)" for name in names if name != "id")
    head = f"INSERT INTO catalogue ({', '.join(f'`{name}`' for name in names)}) VALUES "
    batches = []
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        text = head + ", ".join([mark] * len(part)) + f" ON DUPLICATE KEY UPDATE {updates}"
        batches.append((text, tuple(row[name] for row in part for name in names)))
    connection = await _connect(server, "bench")
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(str(CreateTable(catalogue).compile(dialect=mysql.dialect())))  # type: ignore[no-untyped-call]
            for index in catalogue.indexes:
                columns = ", ".join(
                    f"`{column.name}`" + ("(255)" if index.dialect_options["mysql"]["length"] else "")
                    for column in index.columns
                )
                await cursor.execute(f"CREATE INDEX {index.name} ON catalogue ({columns})")
            began = time.perf_counter()
            for text, values in batches:
                await cursor.execute(text, values)
            return len(rows) / (time.perf_counter() - began)
    finally:
        connection.close()


async def _rows(log: Log) -> Sequence[dict[str, Any]]:
    """The catalogue's rows for what stands in the log."""
    projection = CatalogueProjection(worlds.settings(worlds.NOWHERE))
    rows = []
    for partition in range(log.partitions):
        for entry in await log.read(partition, count=1_000_000):
            row = projection.fold(None, recorded(partition, entry.pos, entry.fields))
            if row is not None:
                rows.append(row)
    return rows


async def _connect(server: MariaDBServer, database: str | None = None) -> Any:
    return await aiomysql.connect(
        host="127.0.0.1", port=server.port, user="root", db=database, charset="utf8mb4", autocommit=True
    )


async def _inserts(server: MariaDBServer) -> int:
    """INSERT statements that the server was ever sent."""
    connection = await _connect(server)
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_insert'")
            return int((await cursor.fetchone())[1])
    finally:
        connection.close()


def _version(server: MariaDBServer) -> str:
    async def asked() -> str:
        connection = await _connect(server)
        try:
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT VERSION()")
                return f"MariaDB {(await cursor.fetchone())[0].split('-')[0]}"
        finally:
            connection.close()

    return run_loop(asked)


async def _memory(settings: Settings, redis_url: str, events: int) -> tuple[int, int]:
    """Bytes in use after `events` events were followed by all projections, and after as many again."""
    sizes = []
    async with open_log(settings, redis_url) as log, open_database(settings) as database:
        runner = Runner(log, database, discover(settings))
        async with running(runner.run()):
            for first in (0, events):
                await _append(log, events, first)
                await _applied(runner)
                sizes.append(resident(os.getpid()))
    return sizes[0], sizes[1]
