"""The catalogue's database: connections, transactions, and its faults in our words."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from streams.errors import DependencyDownError, UnsupportedCatalogueError
from streams.settings import Settings

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5
"""Seconds until an unreachable server is given up."""

DOWN_CODES = frozenset(
    {0, 1040, 1042, 1043, 1044, 1045, 1047, 1049, 1050, 1053, 1077, 1079, 1129, 1152, 1158, 1159, 1160, 1161, 1203}
    | {1205, 1213, 1290, 1317, 1836, 1927, 4031, *range(2000, 2062)}
)
"""MySQL's errors that pass, or that the server's owner ends: nothing is wrong with what was sent.

1050 (the table exists): another of ours made it at the same moment.
"""

DOWN_WORDS = ("database is locked", "unable to open database", "disk i/o error", "database or disk is full", "readonly")
"""The same for SQLite, which has words only."""


class NotMadeYetError(DependencyDownError):
    """A table is missing: the catalogue is empty as yet, or a projection is built for the first time."""


class Database:
    """One catalogue. Made by `open_database`; every transaction goes through here.

    Whatever cannot be reached or does not answer in time is raised as DependencyDownError.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() not in {"sqlite", "mysql", "mariadb"}:
            raise UnsupportedCatalogueError(
                f"the catalogue cannot be {parsed.get_backend_name()!r}: use mysql:// (MySQL 8.0+, MariaDB 10.6+) or sqlite://"
            )
        self.dialect: Literal["sqlite", "mysql"] = "sqlite" if parsed.get_backend_name() == "sqlite" else "mysql"
        self.path = Path(parsed.database) if self.dialect == "sqlite" and parsed.database else None
        """The file of an SQLite catalogue."""
        self.shown = parsed.render_as_string(hide_password=True)
        """The URL without its password."""
        self.engine = _sqlite_engine(url) if self.dialect == "sqlite" else _mysql_engine(url)
        self._version: str | None = None
        self._checking = asyncio.Lock()
        # SQLite has one writer at a time: waiting here is fair and cheap, waiting in SQLite is neither.
        self._writer = asyncio.Lock()

    async def check(self) -> str:
        """Connect and say what it is: `MariaDB 10.11.6`, `SQLite 3.40.1`.

        Raises DependencyDownError, and UnsupportedCatalogueError for one that is too old.
        """
        async with self._checking:
            if self._version is None:
                self._version = await self._look()
        return self._version

    @asynccontextmanager
    async def transaction(self, timeout: float = 60.0) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: commits when the body ends, rolls back when it raises."""
        await self.check()
        async with self._writer if self.dialect == "sqlite" else nullcontext():
            with self.in_our_words():
                async with asyncio.timeout(timeout), self.engine.connect() as conn:
                    await conn.execution_options(writes=True)
                    async with conn.begin():
                        yield conn

    @asynccontextmanager
    async def reading(self, timeout: float = 15.0) -> AsyncIterator[AsyncConnection]:
        """A connection for queries: one consistent look, nothing is committed."""
        await self.check()
        with self.in_our_words(reading=True):
            async with asyncio.timeout(timeout), self.engine.connect() as conn:
                yield conn

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()

    async def _look(self) -> str:
        query = "SELECT sqlite_version()" if self.dialect == "sqlite" else "SELECT VERSION()"
        with self.in_our_words():
            async with asyncio.timeout(CONNECT_TIMEOUT * 2), self.engine.connect() as conn:
                text = str((await conn.exec_driver_sql(query)).scalar_one())
        version = f"SQLite {text}" if self.dialect == "sqlite" else supported_version(text)
        log.info("catalogue connected", url=self.shown, version=version)
        return version

    @contextmanager
    def in_our_words(self, *, reading: bool = False) -> Iterator[None]:
        """Raise what the driver says about an unreachable server as DependencyDownError."""
        try:
            yield
        except exc.DBAPIError as error:
            if reading and _is_missing_table(error):
                raise NotMadeYetError(
                    "catalogue", f"its tables are not made yet; a worker does that when it starts ({self.shown})"
                ) from error
            if _is_down(error):
                raise DependencyDownError("catalogue", f"{error.orig} ({self.shown})") from error
            raise
        except (TimeoutError, exc.TimeoutError) as error:
            raise DependencyDownError("catalogue", f"no answer in time ({self.shown})") from error


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The catalogue that the settings name. Opens also while its server is down; see `check`."""
    database = Database(settings.sqlalchemy_url)
    if database.path is not None:
        database.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield database
    finally:
        await database.close()


def supported_version(text: str) -> str:
    """The server's name and version from what `SELECT VERSION()` said.

    Raises UnsupportedCatalogueError for MySQL before 8.0 and MariaDB before 10.6.
    """
    if found := re.search(r"(\d+)\.(\d+)\.(\d+)-mariadb", text, re.IGNORECASE):
        name, least, advice = "MariaDB", (10, 6), "upgrade it to MariaDB 10.6 or later"
    elif found := re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text):
        name, least, advice = "MySQL", (8, 0), "upgrade it to MySQL 8.0 or later (or use MariaDB 10.6 or later)"
    else:
        raise UnsupportedCatalogueError(
            f"the catalogue's server calls itself {text!r}: use MySQL 8.0+ or MariaDB 10.6+"
        )
    if (int(found[1]), int(found[2])) < least:
        raise UnsupportedCatalogueError(
            f"the catalogue's server is {name} {text}, which is too old: {advice}, or unset the MySQL settings to "
            "use the built-in SQLite catalogue. Nothing was changed in it."
        )
    return f"{name} {'.'.join(part for part in found.groups() if part)}"


def _is_down(error: exc.DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    code = arguments[0] if arguments else None
    return code in DOWN_CODES if isinstance(code, int) else any(word in str(code).lower() for word in DOWN_WORDS)


def _is_missing_table(error: exc.DBAPIError) -> bool:
    """MySQL's 1146, SQLite's `no such table`: the catalogue is empty as yet, or being swapped."""
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    return bool(arguments) and (arguments[0] == 1146 or str(arguments[0]).startswith("no such table"))


def _mysql_engine(url: str) -> AsyncEngine:
    # MySQL 8 warns at every upsert that VALUES(col) is deprecated; MariaDB does not know its replacement.
    warnings.filterwarnings("ignore", message=".*VALUES function.*deprecated")
    warnings.filterwarnings("ignore", message=".*[Ii]nteger display width is deprecated")  # the contract says int(11)
    return create_async_engine(
        make_url(url).update_query_dict({"charset": "utf8mb4"}),
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "init_command": "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', "
            "time_zone = '+00:00', innodb_lock_wait_timeout = 20",
        },
        isolation_level="READ COMMITTED",
        pool_size=8,
        max_overflow=8,
        pool_timeout=10,
        pool_recycle=1800,
        pool_pre_ping=True,
    )


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=8, max_overflow=8, pool_timeout=10)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        cursor = connection.cursor()
        for pragma in ("busy_timeout = 15000", "journal_mode = WAL", "synchronous = NORMAL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(conn: Any) -> None:
        # A transaction that turns from reader to writer midway fails when another wrote in between.
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("writes") else "BEGIN")

    return engine
