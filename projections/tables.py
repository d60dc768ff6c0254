"""Column types, the tables of one version, and how they are made and removed.

Ids and paths are `utf8mb4_bin` on MySQL: what differs in a byte differs. Times are UTC with
microseconds, without a zone.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Double, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import quoted_name

NEXT, OLD = "__next", "__old"
"""What the names of tables that are being built, and of those that were replaced, end in."""


def identifier() -> String:
    """A video's, subject's or event's id. (`spoolhouse:registry`-like ones are longer than a UUID.)"""
    return String(64)


def name() -> String:
    """A file name, escaped: at most 255 bytes, of which each may take four characters."""
    return String(1024)


def long_text() -> Any:
    """Up to 16 MiB: MySQL's TEXT ends at 64 KiB, which an event's data may just reach."""
    return Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def moment() -> Any:
    """A time in UTC with microseconds."""
    return DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def size() -> BigInteger:
    """Bytes, nanoseconds, and whatever else outgrows 32 bits."""
    return BigInteger()


def real() -> Double[Any]:
    """A double: MySQL's FLOAT would lose digits, and a rebuild would differ."""
    return Double()


def utc(at: datetime) -> datetime:
    """An aware time as the tables hold it."""
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).replace(tzinfo=None)


def aware(at: datetime | None) -> datetime | None:
    """A time from a table, with its zone again."""
    return None if at is None else at.replace(tzinfo=UTC)


def signed(number: int) -> int:
    """An unsigned 64-bit number (an inode may be one) as the signed one that tables hold."""
    return number - 2**64 if number >= 2**63 else number


def unsigned(number: int) -> int:
    """What `signed` was given."""
    return number + 2**64 if number < 0 else number


def table(table_name: str, *columns: Any) -> Table:
    """A table of ours: InnoDB, compared byte by byte."""
    return Table(
        table_name, MetaData(), *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin"
    )


def checkpoint_table(projection: str) -> Table:
    """Where a projection stands in each partition. It belongs to a version and is swapped with it."""
    return table(
        f"{projection}_checkpoint",
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("pos", BigInteger, nullable=False),
        Column("event_id", String(64), nullable=False),
        # The version that these tables were built by: an older process must not write into newer tables.
        Column("build", String(64), nullable=False),
    )


class RowCache:
    """The rows that were last read or written, up to a number of them. Spares SELECTs."""

    def __init__(self, limit: int) -> None:
        self._rows: OrderedDict[Any, dict[str, Any] | None] = OrderedDict()
        self._limit = limit

    def get(self, key: Any) -> tuple[bool, dict[str, Any] | None]:
        """Whether the row is known, and the row (None: known not to be there)."""
        if key not in self._rows:
            return False, None
        self._rows.move_to_end(key)
        return True, self._rows[key]

    def put(self, key: Any, row: dict[str, Any] | None) -> None:
        """Remember a row."""
        self._rows[key] = row
        self._rows.move_to_end(key)
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: what was folded was not committed, or someone else has written."""
        self._rows.clear()


class Tables(Mapping[str, Table]):
    """A projection's tables of one version, by the names they have when live."""

    def __init__(self, projection: str, definitions: Iterable[Table], suffix: str = "", cached: int = 5000) -> None:
        self.suffix = suffix
        metadata = MetaData()
        everything = [*definitions, checkpoint_table(projection)]
        self._tables = {t.name: t.to_metadata(metadata, name=t.name + suffix) for t in everything}
        self.checkpoint = self._tables[f"{projection}_checkpoint"]
        self.cache = RowCache(cached)

    def __getitem__(self, key: str) -> Table:
        return self._tables[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    async def create(self, conn: AsyncConnection) -> None:
        """Make those that are not there."""
        for one in self._tables.values():
            if conn.dialect.name == "sqlite":
                # Index names are the schema's there, not the table's: two versions lie side by side.
                mark = secrets.token_hex(4)
                for index in one.indexes:
                    index.name = quoted_name(f"{index.name}_{mark}", None)
            await conn.run_sync(one.create, checkfirst=True)

    async def drop(self, conn: AsyncConnection) -> None:
        """Remove those that are there."""
        for one in self._tables.values():
            await conn.run_sync(one.drop, checkfirst=True)
