"""Where a projection stands, moved in the same transaction as its rows.

Moving compares what is there with what the reader believes: a second reader can do no harm, and no
event is skipped or applied twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, insert, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.database import Database
from projections.dialects import placeholder
from projections.tables import checkpoint_table
from streams.errors import DependencyDownError


class CheckpointMovedError(Exception):
    """Someone else moved the checkpoint (or swapped the tables): nothing was applied; load it again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A position that was reached, and the id of the event that stands there."""

    pos: int
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint table holds."""

    epoch: int
    build: str
    places: list[Place]
    """One for each partition."""


async def begin(conn: AsyncConnection, table: Table, partitions: int, epoch: int, build: str) -> None:
    """Stand before the first event of every partition, where nothing is written yet."""
    there = set((await conn.execute(select(table.c.partition))).scalars())
    rows = [
        {"partition": partition, "epoch": epoch, "pos": 0, "event_id": "", "build": build}
        for partition in range(partitions)
        if partition not in there
    ]
    if rows:
        await conn.execute(insert(table), rows)


async def load(conn: AsyncConnection, table: Table) -> Checkpoint:
    """What the table holds. Raises CheckpointMovedError where it is empty."""
    rows = (await conn.execute(select(table).order_by(table.c.partition))).all()
    if not rows:
        raise CheckpointMovedError(f"{table.name} is empty")
    return Checkpoint(rows[0].epoch, rows[0].build, [Place(row.pos, row.event_id) for row in rows])


async def load_if_there(conn: AsyncConnection, table: Table) -> Checkpoint | None:
    """What the table holds; None where it was not made yet."""
    if await conn.run_sync(lambda sync: inspect(sync).has_table(table.name)):
        return await load(conn, table)
    return None


async def advance(
    conn: AsyncConnection, table: Table, epoch: int, build: str, moves: Mapping[int, tuple[Place, Place]]
) -> None:
    """Move partitions from one place to the next, all in one statement.

    Raises CheckpointMovedError where one does not stand where the move begins. To be the first
    statement of the transaction: the rows' locks then keep a second reader waiting.
    """
    mark = placeholder(conn)
    quote = conn.dialect.identifier_preparer.quote
    partition = quote("partition")
    case = f"CASE {partition} " + f"WHEN {mark} THEN {mark} " * len(moves) + "END"
    where = " OR ".join([f"({partition} = {mark} AND pos = {mark})"] * len(moves))
    values: list[Any] = []
    for at, (_, to) in moves.items():
        values += (at, to.event_id)
    for at, (_, to) in moves.items():
        values += (at, to.pos)
    values += (epoch, build)
    for at, (last, _) in moves.items():
        values += (at, last.pos)
    result = await conn.exec_driver_sql(
        f"UPDATE {quote(table.name)} SET event_id = {case}, pos = {case} "  # noqa: S608 # names of ours, values bound
        f"WHERE epoch = {mark} AND build = {mark} AND ({where})",
        tuple(values),
    )
    if result.rowcount != len(moves):
        raise CheckpointMovedError(
            f"{table.name}: {result.rowcount} of {len(moves)} partitions stood where they were left"
        )


async def reached(database: Database, projection: str, positions: Sequence[int], timeout: float) -> bool:
    """Wait, in whichever process, until a projection has applied all up to `positions`.

    False when `timeout` seconds are over.
    """
    table = checkpoint_table(projection)
    deadline = time.monotonic() + timeout
    while True:
        try:
            async with database.reading() as conn:
                places = (await load(conn, table)).places
        except (CheckpointMovedError, DependencyDownError):
            places = []  # not made yet, just being swapped, or not to be reached
        if len(places) == len(positions) and all(at.pos >= to for at, to in zip(places, positions, strict=True)):
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(0.02)
