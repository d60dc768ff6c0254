"""A log, a catalogue and the projections between them, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from projections.database import Database, open_database
from projections.projection import Projection, discover
from projections.runner import Runner
from streams.log import Log, open_log
from streams.settings import Settings
from tests.projections.happenings import Happenings


@dataclass
class World:
    """One log and one catalogue."""

    settings: Settings
    log: Log
    database: Database
    happenings: Happenings
    url: str
    runners: list[Runner] = field(default_factory=list)

    def projections(self, *names: str) -> list[Projection]:
        """The named projections, or all."""
        return [one for one in discover(self.settings) if not names or one.name in names]

    @contextlib.asynccontextmanager
    async def running(self, *names: str, database: Database | None = None) -> AsyncIterator[Runner]:
        """The runner at work until the body ends."""
        runner = Runner(self.log, database or self.database, self.projections(*names))
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def rows(self, table: str, order: str = "1") -> list[dict[str, Any]]:
        """A table's rows as the driver gives them."""
        quote = "`" if self.database.dialect == "mysql" else '"'
        async with self.database.reading() as conn:
            found = await conn.exec_driver_sql(f"SELECT * FROM {quote}{table}{quote} ORDER BY {order}")
            return [dict(row) for row in found.mappings()]

    async def sql(self, statement: str) -> None:
        """Change something behind Spoolhouse's back."""
        async with self.database.transaction() as conn:
            await conn.execute(text(statement))


async def until(condition: Callable[[], Any | Awaitable[Any]], what: str, timeout: float = 90.0) -> Any:
    """Wait for a condition, with a generous bound."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        await asyncio.sleep(0.01)


async def applied(runner: Runner, timeout: float = 90.0) -> None:
    """Everything that the log holds is applied."""
    assert await runner.caught_up(timeout), [one for one in runner.status() if one.lag or one.stopped or one.waiting]


@contextlib.asynccontextmanager
async def world_at(settings: Settings, redis_url: str, rng: random.Random) -> AsyncIterator[World]:
    """A world on these servers."""
    async with open_log(settings, redis_url) as log, open_database(settings) as database:
        yield World(settings, log, database, Happenings(log, rng), settings.sqlalchemy_url)


@pytest.fixture
async def world(
    make_settings: Callable[..., Settings], redis_url: str, catalogue_url: str, rng: random.Random
) -> AsyncIterator[World]:
    """An empty log of four partitions and an empty catalogue: SQLite, then MariaDB."""
    async with world_at(make_settings(catalogue_url=catalogue_url, partitions=4), redis_url, rng) as made:
        yield made


@pytest.fixture
async def mariadb_world(
    make_settings: Callable[..., Settings], redis_url: str, mariadb_url: str, rng: random.Random
) -> AsyncIterator[World]:
    """The same on MariaDB only."""
    async with world_at(make_settings(catalogue_url=mariadb_url, partitions=4), redis_url, rng) as made:
        yield made


@pytest.fixture
def local_time() -> Iterator[None]:
    """A zone that is not UTC, for this test alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()
