"""What is asked about the work on videos; and the same of a history, for what the tables do not have yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import select

from projections import checkpoints, tables
from projections.database import Database
from projections.media import COLUMNS, MAX_CLIENT, Row, folded, media
from streams.codec import Recorded
from streams.media import TASKS, MediaOf, PreviewFiles, Rendition, TaskState
from streams.paths import unescape_path

PAGE = 500
"""Videos that one statement asks for."""

_PATHS = ("poster", "poster_webp", "sprite", "thumbnails")
_LIGHT = [column for column in media.columns if column.name != "metadata"]


async def media_of_video(database: Database, video: str) -> MediaOf | None:
    """All of one video."""
    async with database.reading() as conn:
        row = (await conn.execute(select(media).where(media.c.id == video))).mappings().first()
    return None if row is None else as_media(dict(row))


async def media_of_videos(database: Database, videos: Sequence[str]) -> dict[str, MediaOf]:
    """Those of these videos that there are, by id, without their metadata documents."""
    found: dict[str, MediaOf] = {}
    async with database.reading() as conn:
        for start in range(0, len(videos), PAGE):
            query = select(*_LIGHT).where(media.c.id.in_(videos[start : start + PAGE]))
            for row in (await conn.execute(query)).mappings():
                found[row["id"]] = as_media(dict(row))
    return found


async def media_of_client(database: Database, client_id: str, limit: int, *, everyone: bool) -> list[MediaOf]:
    """A client's videos (or everyone's), newest first, without their metadata documents."""
    query = select(*_LIGHT).order_by(media.c.created.desc(), media.c.id.desc()).limit(limit)
    if not everyone:
        if len(client_id) > MAX_CLIENT:
            return []
        query = query.where(media.c.client_id == client_id)
    async with database.reading() as conn:
        rows = [dict(row) for row in (await conn.execute(query)).mappings()]
    # MySQL takes `me` and `me ` for equal.
    return [as_media(row) for row in rows if everyone or row["client_id"] == client_id]


async def media_positions(database: Database) -> list[int] | None:
    """Up to where in each partition these tables have followed the log; None where they were not made yet."""
    async with database.reading() as conn:
        try:
            found = await checkpoints.load_if_there(conn, tables.checkpoint_table("media"))
        except checkpoints.CheckpointMovedError:
            return None  # it is about to be made
    return None if found is None else [place.pos for place in found.places]


def media_in(history: Iterable[Recorded[Any]], *, previews: bool) -> MediaOf | None:
    """What a video's history says of the work on it; None where it is none of a video that came in."""
    row: Row | None = None
    for recorded in history:
        if ":" not in recorded.subject:
            row = folded(row, recorded, previews=previews)
    return None if row is None else as_media(row)


def as_media(row: Row) -> MediaOf:
    """A row of the table (with or without its metadata) in our words."""
    document = row.get("metadata")
    return MediaOf(
        video=row["id"],
        revision=row["revision"],
        filename=row["filename"],
        client_id=row["client_id"],
        tasks={state.task: state for state in _states(row)},
        renditions=tuple(_rendition(one) for one in _loaded(row["renditions"]) or ()),
        previews=None if row["previews"] is None else _pictures(_loaded(row["previews"])),
        metadata=_loaded(document),
    )


def _states(row: Row) -> list[TaskState]:
    return [
        TaskState(
            task=task,
            status=row[f"{prefix}_status"],
            message=row[f"{prefix}_message"],
            error=row[f"{prefix}_error"],
            at=_aware(row[f"{prefix}_at"]),
            ver=row[f"{prefix}_ver"],
        )
        for task in TASKS
        if row[f"{(prefix := COLUMNS[task])}_status"] is not None
    ]


def _rendition(stored: Row) -> Rendition:
    playlist = stored["playlist"]
    return Rendition(
        **{
            **stored,
            "path": unescape_path(stored["path"]),
            "playlist": None if playlist is None else unescape_path(playlist),
            "stored": datetime.fromisoformat(stored["stored"]),
        }
    )


def _pictures(stored: Row) -> PreviewFiles:
    paths = {name: unescape_path(stored[name]) for name in _PATHS if stored[name] is not None}
    return PreviewFiles(**{**stored, **paths})


def _loaded(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _aware(at: datetime) -> datetime:
    found = tables.aware(at)
    assert found is not None
    return found
