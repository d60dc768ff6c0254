"""What a projection is, and how the ones of this folder are found.

A projection folds events into tables. The runner calls `apply` with events in the log's order
(order across partitions: as they arrive) inside the very transaction in which the checkpoint
moves, so each event is applied once; a projection never thinks about repeats.

To add one, put a file with a subclass of `Projection` into this folder. Nothing else is touched.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

import projections
from projections.database import Database
from projections.dialects import upsert_many
from projections.tables import Tables
from streams.codec import Recorded
from streams.errors import DependencyDownError, InapplicableError
from streams.settings import Settings


class OwnedElsewhereError(DependencyDownError):
    """Another process does this projection's work; this one stands by and takes over when it ends."""


class Projection(ABC):
    """One read model."""

    name: ClassVar[str]
    """Names the checkpoint table and the consumer group that mirrors its position."""
    version: ClassVar[int] = 1
    """Raise it whenever the tables or the fold change: they are then rebuilt."""
    tables: ClassVar[tuple[Table, ...]]
    ordered: ClassVar[bool] = False
    """A rebuild hands over the events of all partitions by their time."""
    compared: ClassVar[bool] = True
    """A rebuilt one equals the live one, row for row."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def fingerprint(self) -> str:
        """Changes with the settings that the rows depend on: they are then rebuilt."""
        return ""

    def wants(self, recorded: Recorded[Any]) -> bool:  # noqa: ARG002 # the base takes everything
        """Whether it folds this event. What it does not want costs it nothing."""
        return True

    async def prepare(self, database: Database, live: Tables) -> None:  # noqa: B027 # a hook that most leave empty
        """Once its tables are there, before it follows the log."""

    async def opened(self, conn: AsyncConnection, tables: Tables) -> None:  # noqa: B027 # a hook that most leave empty
        """Each time that following (or building) begins, in the transaction that reads the checkpoint."""

    @abstractmethod
    async def apply(self, conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> None:
        """Fold events into `tables` (the live ones, or the next version's).

        Raises InapplicableError where one cannot be applied; the projection then stops and says so.
        """

    async def before_swap(  # noqa: B027 # a hook that most leave empty
        self, database: Database, live: Tables, following: Tables
    ) -> None:
        """Just before the next version's tables take the place of the live ones, which stand still.

        May run again, after a crash.
        """

    def closed(self) -> None:  # noqa: B027 # a hook that most leave empty
        """When following ends."""


class RowFold(Projection):
    """A projection with one row for each subject (or other key), folded event by event in Python.

    A batch costs one SELECT of the rows that are not known yet and one multi-row upsert.
    """

    def key(self, recorded: Recorded[Any]) -> str | None:
        """The primary key of the row that the event belongs to; None: of no row."""
        return recorded.subject

    @abstractmethod
    def fold(self, row: dict[str, Any] | None, recorded: Recorded[Any]) -> dict[str, Any] | None:
        """The row after the event: a new dict with every column, never the given one changed.

        None: there is no row. The same object: nothing changed.
        """

    async def folded(self, conn: AsyncConnection, tables: Tables, changes: Changes) -> None:
        """After a batch: (row before, row after) of each row that changed. Already written."""

    async def apply(self, conn: AsyncConnection, tables: Tables, events: Sequence[Recorded[Any]]) -> None:
        """Fold a batch."""
        target = tables[self.tables[0].name]
        keyed = [(key, one) for one in events if (key := self.key(one)) is not None]
        rows = await self._rows(conn, target, tables, keyed)
        before = dict(rows)
        for key, one in keyed:
            try:
                rows[key] = self.fold(rows[key], one)
            except (ValueError, KeyError, TypeError) as error:
                raise InapplicableError(
                    f"{one.type} at position {one.pos} of partition {one.partition:02d} does not fit {self.name}: {error!r}"
                ) from error
        changed = {key: row for key, row in rows.items() if row is not before[key]}
        if written := [row for row in changed.values() if row is not None]:
            await upsert_many(conn, target, written)
        if gone := [key for key, row in changed.items() if row is None]:
            await conn.execute(delete(target).where(next(iter(target.primary_key)).in_(gone)))
        for key, row in rows.items():
            tables.cache.put(key, row)
        if changed:
            await self.folded(conn, tables, [(before[key], row) for key, row in changed.items()])

    async def _rows(
        self, conn: AsyncConnection, target: Table, tables: Tables, keyed: Sequence[tuple[str, Recorded[Any]]]
    ) -> dict[str, dict[str, Any] | None]:
        rows: dict[str, dict[str, Any] | None] = {}
        missing: list[str] = []
        for key, one in keyed:
            if key in rows:
                continue
            known, rows[key] = tables.cache.get(key)
            # A subject's first event finds no row: nothing to ask for.
            if not known and not (one.ver == 1 and key == one.subject):
                missing.append(key)
        column = next(iter(target.primary_key))
        for start in range(0, len(missing), 500):
            found = await conn.execute(select(target).where(column.in_(missing[start : start + 500])))
            for row in found.mappings():
                rows[row[column.name]] = dict(row)
        return rows


Changes = Sequence[tuple[dict[str, Any] | None, dict[str, Any] | None]]


def discover(settings: Settings) -> list[Projection]:
    """Every projection of this folder, by name. Raises TypeError where two have one name."""
    for found_module in pkgutil.iter_modules(projections.__path__):
        importlib.import_module(f"{projections.__name__}.{found_module.name}")
    found: dict[str, type[Projection]] = {}
    for cls in _subclasses(Projection):  # type: ignore[type-abstract]
        module = sys.modules.get(cls.__module__)
        ours = cls.__module__.startswith(projections.__name__ + ".") and getattr(module, cls.__name__, None) is cls
        if not ours or not hasattr(cls, "name"):
            continue
        if found.setdefault(cls.name, cls) is not cls:
            raise TypeError(
                f"two projections are named {cls.name!r}: {found[cls.name].__module__} and {cls.__module__}"
            )
    return [found[each](settings) for each in sorted(found)]


def _subclasses(cls: type[Projection]) -> list[type[Projection]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]
