"""The `videos` table that users of the watched-folder notifier query: one row a file, by number.

The table belongs to its users as much as to us: others change `status`, write rows of their own,
hang grants and keys on it. It is therefore never renamed, dropped or emptied. What we want to see
in it is folded into `legacy_rows`, which is rebuilt and swapped like any other table; `videos`
takes each change of that, in the same transaction, column by column, and so keeps what others
wrote, also through a rebuild.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    inspect,
    null,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.database import Database
from projections.dialects import insert_many, upsert_many
from projections.projection import Changes, RowFold
from projections.tables import Tables
from projections.urls import des_url, url_settings
from streams.codec import Recorded
from streams.errors import InapplicableError, UnsupportedCatalogueError
from streams.events import (
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    RowAdopted,
    VideoOffloaded,
    VideoRestored,
)
from streams.paths import escape_path
from streams.queries import LegacyRow

Row = dict[str, Any]

MAX_PATH, MAX_MAIN_DIR, MAX_URL = 1024, 512, 1024
"""Characters that the columns hold."""

DDL = """CREATE TABLE IF NOT EXISTS `videos` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `main_dir` varchar(512) DEFAULT NULL,
  `des_video_path` varchar(1024) NOT NULL,
  `status` int(11) DEFAULT 1,
  `created_date` datetime DEFAULT current_timestamp(),
  `des_url` varchar(1024) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `idx_des_video_path` (`des_video_path`(255)),
  KEY `idx_status` (`status`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"""
"""The contract, to the letter."""

SQLITE_DDL = (
    """CREATE TABLE IF NOT EXISTS videos (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, main_dir VARCHAR(512) NULL, des_video_path VARCHAR(1024) NOT NULL,
  status INTEGER DEFAULT 1, created_date DATETIME DEFAULT (datetime('now', 'localtime')), des_url VARCHAR(1024) NULL)""",
    "CREATE INDEX IF NOT EXISTS idx_des_video_path ON videos (des_video_path)",
    "CREATE INDEX IF NOT EXISTS idx_status ON videos (status)",
)


def _local_time() -> Any:
    """Whole seconds, as MySQL's plain datetime."""
    return DateTime().with_variant(sqlite.DATETIME(truncate_microseconds=True), "sqlite")  # type: ignore[no-untyped-call]


videos = Table(
    "videos",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("main_dir", String(MAX_MAIN_DIR)),
    Column("des_video_path", String(MAX_PATH), nullable=False),
    Column("status", Integer),
    Column("created_date", _local_time()),
    Column("des_url", String(MAX_URL)),
)

legacy_rows = tables.table(
    "legacy_rows",
    Column("video", tables.identifier(), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("main_dir", Text),
    Column("des_video_path", Text, nullable=False),
    Column("status", Integer),
    Column("created_date", _local_time()),
    Column("des_url", Text),
    # Where the row that was there before us pointed to.
    Column("adopted_path", Text),
    Index("ix_legacy_rows_number", "number"),
)

_FOLDED = (RowAdopted, FileSettled, FileMoved, FileRemoved, FileReturned, VideoOffloaded, VideoRestored)

WRITTEN = ("main_dir", "des_video_path", "status", "created_date", "des_url")


class LegacyVideosProjection(RowFold):
    """Folds watched files into `legacy_rows`, and its changes into `videos`."""

    name = "legacy_videos"
    version = 2
    tables = (legacy_rows,)

    def fingerprint(self) -> str:
        """URLs depend on the settings."""
        return url_settings(self.settings)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """What happens to watched files, and to rows that were there before."""
        return isinstance(recorded.event, _FOLDED)

    async def prepare(self, database: Database, live: Tables) -> None:
        """Make `videos` where there is none, else see whether it is the table that we know.

        Raises UnsupportedCatalogueError for a table of another structure.
        """
        async with database.transaction() as conn:
            missing = await _make_or_check(conn)
        if missing:
            await _reconcile(database, None, live)

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """What we want to see in the video's row after the event."""
        event = recorded.event
        if isinstance(event, RowAdopted):
            return row or {
                "video": recorded.subject,
                "number": event.number,
                "main_dir": event.main_dir,
                "des_video_path": event.path,
                "status": event.status,
                "created_date": _parsed(event.created),
                "des_url": event.url,
                "adopted_path": event.path,
            }
        if isinstance(event, FileSettled):
            place = self._place(event.root, event.relative)
            if row is None:
                return {
                    "video": recorded.subject,
                    "number": event.number,
                    **place,
                    "status": 1,
                    "adopted_path": None,
                    "created_date": recorded.time.astimezone().replace(tzinfo=None, microsecond=0),
                }
            # An adopted row keeps its URL, its folder and its date.
            return {**row, "status": 1, **({} if row["des_video_path"] == place["des_video_path"] else place)}
        if row is None:
            return None
        if isinstance(event, (FileRemoved, VideoOffloaded)):
            # Whoever reads this table follows its URL: what was offloaded is not there to be fetched.
            return {**row, "status": 0}
        if isinstance(event, VideoRestored):
            return {**row, "status": 1}
        place = self._place(event.root, event.relative)
        return {**row, "status": 1, **({} if row["des_video_path"] == place["des_video_path"] else place)}

    async def folded(self, conn: AsyncConnection, tables: Tables, changes: Changes) -> None:
        """Carry the changes over to `videos`; a table that is still being built is shown to nobody."""
        if not tables.suffix:
            await write_through(conn, [(before, after) for before, after in changes if after is not None])

    async def before_swap(self, database: Database, live: Tables, following: Tables) -> None:
        """Carry over to `videos` what the rebuilt rows say differently."""
        async with database.transaction() as conn:
            await _make_or_check(conn)
            names = set(await conn.run_sync(lambda sync: inspect(sync).get_table_names()))
        await _reconcile(database, live if legacy_rows.name in names else None, following)

    def _place(self, root: str, relative: str) -> Row:
        whole = os.path.join(root, relative)
        path, url = _text(whole), des_url(self.settings, whole)
        main_dir = _text(root)
        if len(path) > MAX_PATH or len(main_dir) > MAX_MAIN_DIR:
            raise InapplicableError(f"the path {path[:80]}… has {len(path)} characters; `videos` holds {MAX_PATH}")
        # A URL is for convenience; one that does not fit is left out rather than cut.
        return {"main_dir": main_dir, "des_video_path": path, "des_url": url if len(url) <= MAX_URL else None}


async def write_through(conn: AsyncConnection, changes: Sequence[tuple[Row | None, Row]]) -> None:
    """Put changes of wanted rows into `videos`: what is missing is inserted, of others only what changed.

    A status other than 0 and 1 is someone else's and stays. Raises InapplicableError where a number
    is taken by someone else's row.
    """
    there = await _there(conn, [after["number"] for _, after in changes])
    fresh: list[Row] = []
    updates: dict[tuple[str, ...], list[Row]] = {}
    for before, after in changes:
        number, now = after["number"], there.get(after["number"])
        row = {"id": number, **{name: after[name] for name in WRITTEN}}
        if now is None:
            fresh.append(row)
            continue
        ours = {after["des_video_path"], after["adopted_path"], before and before["des_video_path"]}
        if now["des_video_path"] not in ours:
            raise InapplicableError(
                f"row {number} of `videos` belongs to {now['des_video_path']!r}, written by someone else, where "
                f"{after['des_video_path']!r} has to stand: give that row another id, and Spoolhouse goes on by itself"
            )
        if names := _to_write(before, after, now):
            updates.setdefault(names, []).append(row)
    await insert_many(conn, videos, fresh)
    for names, rows in updates.items():
        await upsert_many(conn, videos, rows, only=names)


def _to_write(before: Row | None, after: Row, now: Row) -> tuple[str, ...]:
    """The columns of a row that is there which we have to change."""
    if before is not None:
        names = [name for name in WRITTEN if before[name] != after[name]]
    elif after["adopted_path"] is not None:
        names = [name for name in WRITTEN if name != "created_date" and now[name] != after[name]]
    else:
        names = ["status"] if now["status"] != after["status"] else []  # from before a restore
    if "status" in names and now["status"] not in {0, 1}:
        names.remove("status")
    return tuple(names)


async def foreign_rows(database: Database) -> list[LegacyRow]:
    """Rows of `videos` that no event explains, by number; none where there is no such table."""
    return [row for row, _ in await all_rows(database, foreign=True)]


async def all_rows(database: Database, *, foreign: bool = False) -> list[tuple[LegacyRow, str | None]]:
    """Every row of `videos`, by number, each with the id of the video that explains it, where one does.

    `foreign`: only those that none explains.
    """
    async with database.reading(timeout=120) as conn:
        names = set(await conn.run_sync(lambda sync: inspect(sync).get_table_names()))
        if "videos" not in names:
            return []
        created = text("CAST(videos.created_date AS CHAR(19)) AS created")
        explained = "legacy_rows" in names
        query = select(
            videos.c.id, videos.c.main_dir, videos.c.des_video_path, videos.c.des_url, videos.c.status, created,
            legacy_rows.c.video if explained else null().label("video"),
        )  # fmt: skip
        if explained:
            query = query.select_from(videos.outerjoin(legacy_rows, legacy_rows.c.number == videos.c.id))
            if foreign:
                query = query.where(legacy_rows.c.video.is_(None))
        rows = await conn.execute(query.order_by(videos.c.id))
        return [(LegacyRow(one[0], one[1], one[2], one[3], one[4], one[5]), one[6]) for one in rows]


async def _there(conn: AsyncConnection, numbers: Sequence[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for start in range(0, len(numbers), 500):
        # Without the date, which may be 0000-00-00.
        columns = (videos.c.id, videos.c.main_dir, videos.c.des_video_path, videos.c.status, videos.c.des_url)
        rows = await conn.execute(select(*columns).where(videos.c.id.in_(numbers[start : start + 500])))
        found.update((row["id"], dict(row)) for row in rows.mappings())
    return found


async def _reconcile(database: Database, live: Tables | None, following: Tables) -> None:
    """Make `videos` show `following` instead of `live`, a thousand rows at a time."""
    wanted = following["legacy_rows"]
    former = None if live is None else live["legacy_rows"]
    last = 0
    while True:
        async with database.transaction() as conn:
            query = select(wanted).where(wanted.c.number > last).order_by(wanted.c.number).limit(1000)
            rows = [dict(row) for row in (await conn.execute(query)).mappings()]
            if not rows:
                break
            last = rows[-1]["number"]
            before: dict[int, Row] = {}
            if former is not None:
                found = await conn.execute(select(former).where(former.c.number.in_([row["number"] for row in rows])))
                before = {row["number"]: dict(row) for row in found.mappings()}
            there = await _there(conn, [row["number"] for row in rows])
            await write_through(
                conn,
                [
                    (before.get(row["number"]), row)
                    for row in rows
                    if before.get(row["number"]) != row or row["number"] not in there
                ],
            )
    if former is not None:
        # What we once wrote and no event explains any more (the log lost it, and it did not come back).
        async with database.transaction() as conn:
            unexplained = ~select(wanted.c.number).where(wanted.c.number == former.c.number).exists()
            found = await conn.execute(select(former.c.number, former.c.des_video_path).where(unexplained))
            for number, path in found.all():
                await conn.execute(delete(videos).where(videos.c.id == number, videos.c.des_video_path == path))


async def _make_or_check(conn: AsyncConnection) -> bool:
    """Make `videos` where it is missing, and say whether it was."""
    names = set(await conn.run_sync(lambda sync: inspect(sync).get_table_names()))
    if "videos" not in names:
        for statement in SQLITE_DDL if conn.dialect.name == "sqlite" else (DDL,):
            await conn.exec_driver_sql(statement)
        return True
    columns: dict[str, Any] = {
        c["name"]: c for c in await conn.run_sync(lambda sync: inspect(sync).get_columns("videos"))
    }
    faults = [f"there is no column {name}" for name in ("id", *WRITTEN) if name not in columns]
    for name, length in (("main_dir", MAX_MAIN_DIR), ("des_video_path", MAX_PATH), ("des_url", MAX_URL)):
        held = getattr(columns.get(name, {}).get("type"), "length", None)
        if held is not None and held < length:
            faults.append(f"{name} holds {held} characters instead of {length}")
    known = {"id", *WRITTEN}
    for name, column in columns.items():
        if name not in known and not column["nullable"] and column.get("default") is None:
            faults.append(f"the column {name} is required, and nobody told us what to put there")
    if faults:
        raise UnsupportedCatalogueError(
            "the table `videos` is not the one of the watched-folder notifier: "
            + "; ".join(faults)
            + ". Correct it or rename it; nothing was changed."
        )
    return False


def _text(path: str) -> str:
    """A path as its users know it: as it is where it is UTF-8, else escaped."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return escape_path(path)
    return path


def _parsed(created: str | None) -> datetime | None:
    try:
        return None if created is None else datetime.fromisoformat(created)
    except ValueError:
        return None  # 0000-00-00
