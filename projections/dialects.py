"""What MySQL and SQLite say differently, in one place: upserts, renames, locks between processes."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.database import Database

BATCH = 500
"""Rows in one statement: more gains nothing, and SQLite takes 32,766 parameters at most."""

Row = Mapping[str, Any]


class _Statement:
    """A table's multi-row INSERT as text, and how its values are bound. Built once for each table and use."""

    def __init__(self, table: Table, dialect: Dialect, update: tuple[str, ...], add: frozenset[str]) -> None:
        quote = dialect.identifier_preparer.quote
        names = [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key]
        mysql = dialect.name in {"mysql", "mariadb"}
        self.batch = min(BATCH, 32_000 // len(names))
        self._get: Callable[[Row], tuple[Any, ...]] = itemgetter(*names)
        self._processors = [
            (index, process)
            for index, column in enumerate(table.columns)
            if (process := column.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        ]
        self._head = f"INSERT INTO {quote(table.name)} ({', '.join(map(quote, names))}) VALUES "  # noqa: S608
        self._mark = "%s" if mysql else "?"
        table_name = quote(table.name)

        def new(name: str) -> str:
            incoming = f"VALUES({quote(name)})" if mysql else f"excluded.{quote(name)}"
            return f"{table_name}.{quote(name)} + {incoming}" if name in add else incoming

        updates = ", ".join(f"{quote(name)} = {new(name)}" for name in update)
        conflict = (
            " ON DUPLICATE KEY UPDATE " if mysql else f" ON CONFLICT ({', '.join(map(quote, keys))}) DO UPDATE SET "
        )
        self._tail = conflict + updates if update else ""

    def written(self, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement for these rows, and its parameters."""
        columns = list(zip(*map(self._get, rows), strict=True))
        # A column without any value is written as NULL: binding one costs the driver as much as a value.
        empty = {index for index, values in enumerate(columns) if values.count(None) == len(rows)}
        row = ", ".join("NULL" if index in empty else self._mark for index in range(len(columns)))
        bound: list[Iterable[Any]] = list(columns)
        for index, process in self._processors:
            bound[index] = map(process, columns[index])
        kept = [values for index, values in enumerate(bound) if index not in empty]
        text = self._head + ", ".join([f"({row})"] * len(rows)) + self._tail
        return text, tuple(chain.from_iterable(zip(*kept, strict=True)))


_statements: WeakKeyDictionary[Table, dict[Any, _Statement]] = WeakKeyDictionary()


async def upsert_many(
    conn: AsyncConnection,
    table: Table,
    rows: Sequence[Row],
    *,
    only: Sequence[str] | None = None,
    add: frozenset[str] = frozenset(),
    batch: int = BATCH,
) -> None:
    """Insert rows or, where their primary key is there, overwrite them: one statement for each `batch`.

    Every row has every column. Of rows that are there, `only` these columns (all) are overwritten;
    columns in `add` are added to what is there. The text is put together here and sent as it is:
    SQLAlchemy would compile each row count anew, and aiomysql's `executemany` goes row by row for
    statements that it does not recognise.
    """
    if only is None:
        only = [column.name for column in table.columns if not column.primary_key]
    await _send(conn, table, rows, tuple(only), add, batch)


async def insert_many(conn: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, one statement for each 500. Raises IntegrityError where one is there already."""
    await _send(conn, table, rows, (), frozenset(), BATCH)


async def _send(
    conn: AsyncConnection, table: Table, rows: Sequence[Row], update: tuple[str, ...], add: frozenset[str], batch: int
) -> None:
    statements = _statements.setdefault(table, {})
    key = (conn.dialect.name, update, add)
    statement = statements.get(key)
    if statement is None:
        statement = statements[key] = _Statement(table, conn.dialect, update, add)
    size = min(statement.batch, batch)
    for start in range(0, len(rows), size):
        await conn.exec_driver_sql(*statement.written(rows[start : start + size]))


def placeholder(conn: AsyncConnection) -> str:
    """How the driver writes a bound parameter."""
    return "?" if conn.dialect.name == "sqlite" else "%s"


async def rename_tables(conn: AsyncConnection, renames: Sequence[tuple[str, str]]) -> None:
    """Rename tables, all or none: one RENAME TABLE on MySQL, one transaction on SQLite."""
    quote = conn.dialect.identifier_preparer.quote
    pairs = [(quote(old), quote(new)) for old, new in renames]
    if conn.dialect.name == "sqlite":
        for old, new in pairs:
            await conn.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")
    else:
        await conn.exec_driver_sql("RENAME TABLE " + ", ".join(f"{old} TO {new}" for old, new in pairs))


@asynccontextmanager
async def exclusive(database: Database, name: str, timeout: float = 600.0) -> AsyncIterator[None]:
    """Hold a lock that other processes on this catalogue respect; it goes when this process dies.

    Raises TimeoutError when another holds it for `timeout` seconds.
    """
    if database.path is not None:
        async with _file_locked(f"{database.path}.{name}.lock", timeout):
            yield
        return
    await database.check()
    deadline = time.monotonic() + timeout
    async with AsyncExitStack() as stack:
        with database.in_our_words():
            conn = await stack.enter_async_context(database.engine.connect())
        await conn.execution_options(isolation_level="AUTOCOMMIT")
        key = f"spoolhouse.{database.engine.url.database}.{name}"[:64]
        # Asked for in short turns: a wait inside the server would outlive a cancelled task.
        while (await conn.exec_driver_sql("SELECT GET_LOCK(%s, 1)", (key,))).scalar_one() != 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process holds {key}")
        try:
            yield
        finally:
            with suppress(DBAPIError):  # a lost connection has released it
                await conn.exec_driver_sql("SELECT RELEASE_LOCK(%s)", (key,))


@asynccontextmanager
async def _file_locked(path: str, timeout: float) -> AsyncIterator[None]:
    deadline = time.monotonic() + timeout
    with open(path, "w") as file:  # noqa: ASYNC230 # an empty file, opened once
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process holds {path}") from None
                await asyncio.sleep(0.1)
        yield
