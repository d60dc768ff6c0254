"""How many videos lie behind each door, and how many bytes: exact, whatever moves or goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, String, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections import tables
from projections.database import Database
from projections.dialects import upsert_many
from projections.projection import Changes, RowFold
from projections.tables import Tables
from streams.codec import Recorded
from streams.events import (
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    VideoOffloaded,
    VideoRestored,
    VideoStored,
)

# What each video contributes: without it a removal would not know what to take away.
storage_stats_video = tables.table(
    "storage_stats_video",
    Column("video", tables.identifier(), primary_key=True),
    Column("door", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("size", tables.size(), nullable=False),
)

storage_stats = tables.table(
    "storage_stats",
    Column("door", String(16), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("videos", BigInteger, nullable=False),
    Column("bytes", tables.size(), nullable=False),
)


@dataclass(frozen=True, slots=True)
class StorageStat:
    """What lies behind one door in one state."""

    door: str
    state: str
    videos: int
    bytes: int


class StorageStatsProjection(RowFold):
    """Folds each video's contribution; the sums move by what contributions change."""

    name = "storage_stats"
    version = 2
    tables = (storage_stats_video, storage_stats)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """What changes where a video is, or its size."""
        return isinstance(recorded.event, _FOLDED)

    def fold(self, row: dict[str, Any] | None, recorded: Recorded[Any]) -> dict[str, Any] | None:
        """The video's contribution after the event."""
        event = recorded.event
        if isinstance(event, FileRemoved):
            # Of an offloaded one that says nothing new.
            return row if row is None or row["state"] == "offloaded" else {**row, "state": "removed"}
        if isinstance(event, (VideoOffloaded, VideoRestored)):
            return row and {**row, "state": "offloaded" if isinstance(event, VideoOffloaded) else "present"}
        if row is None and not isinstance(event, (VideoStored, FileSettled)):
            return None
        door = event.door if isinstance(event, VideoStored) else "watch"
        return {"video": recorded.subject, "door": door, "state": "present", "size": event.size}

    async def folded(self, conn: AsyncConnection, tables: Tables, changes: Changes) -> None:
        """Add what was gained to the sums, and take away what was lost."""
        count: Counter[tuple[str, str]] = Counter()
        size: Counter[tuple[str, str]] = Counter()
        for before, after in changes:
            for row, sign in ((before, -1), (after, 1)):
                if row is not None:
                    at = (row["door"], row["state"])
                    count[at] += sign
                    size[at] += sign * row["size"]
        target = tables["storage_stats"]
        rows: list[dict[str, Any]] = [
            {"door": door, "state": state, "videos": count[door, state], "bytes": size[door, state]}
            for door, state in sorted(count)
            if count[door, state] or size[door, state]
        ]
        if rows:
            await upsert_many(conn, target, rows, add=frozenset({"videos", "bytes"}))
        if any(row["videos"] < 0 for row in rows):
            await conn.execute(delete(target).where(target.c.videos == 0))


_FOLDED = (VideoStored, FileSettled, FileMoved, FileRemoved, FileReturned, VideoOffloaded, VideoRestored)


async def storage(database: Database) -> list[StorageStat]:
    """The sums, by door and state."""
    async with database.reading() as conn:
        rows = await conn.execute(select(storage_stats).order_by(storage_stats.c.door, storage_stats.c.state))
        return [StorageStat(row.door, row.state, int(row.videos), int(row.bytes)) for row in rows]
