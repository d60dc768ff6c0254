"""How work on each video stands, and what came of it: one row for each video that came in.

What was made of a video is in its row; a rendition, though it has a history of its own, has none.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Index, Integer, String, Text

from projections import tables
from projections.projection import RowFold
from streams.codec import Recorded
from streams.events import (
    AttemptFailed,
    EntryParked,
    FileSettled,
    PreviewsMade,
    RenditionStored,
    VideoProbed,
    VideoStored,
)
from streams.media import TASKS, Task
from streams.media_changes import GROUPS, RELEVANT, begins, changes, name_in, revision_of
from streams.paths import escape_path

Row = dict[str, Any]

MAX_RENDITIONS = 100
"""Of one content: the newest are kept."""

MAX_CLIENT = 128
"""Characters of a client's id; uploads with longer ones are refused."""

COLUMNS: dict[Task, str] = {
    "video-enhancement": "enhancement",
    "metadata-extraction": "extraction",
    "previews": "pictures",
}
"""What the names of a task's columns begin with."""

media = tables.table(
    "media",
    Column("id", tables.identifier(), primary_key=True),
    # who wants to hear of it
    Column("client_id", String(MAX_CLIENT)),
    Column("door", String(16), nullable=False),
    Column("filename", tables.name(), nullable=False),
    Column("revision", Integer, nullable=False),
    # when its first content came in
    Column("created", tables.moment(), nullable=False),
    # for each task: as in streams.media.TaskState; all null where nobody asked for it
    *(
        column
        for prefix in COLUMNS.values()
        for column in (
            Column(f"{prefix}_status", String(16)),
            Column(f"{prefix}_message", Text),
            Column(f"{prefix}_error", Text),
            Column(f"{prefix}_at", tables.moment()),
            Column(f"{prefix}_ver", BigInteger),
        )
    ),
    # JSON: of the current content, newest first
    Column("renditions", tables.long_text()),
    # JSON
    Column("previews", tables.long_text()),
    # JSON: as the event had it
    Column("metadata", tables.long_text()),
    Index("ix_media_client", "client_id", "created", "id"),
    Index("ix_media_created", "created", "id"),
)

_EMPTY: Row = {column.name: None for column in media.columns}
_TYPES = RELEVANT | {RenditionStored}


class MediaProjection(RowFold):
    """Folds what happens in the work on a video."""

    name = "media"
    version = 1
    tables = (media,)

    def fingerprint(self) -> str:
        """Whether pictures are made: only then does a new video wait for some."""
        return f"previews={self.settings.previews}"

    def wants(self, recorded: Recorded[Any]) -> bool:
        """What changes how work on a video stands, and what came of it."""
        event = recorded.event
        if type(event) not in _TYPES or ":" in recorded.subject:
            return False
        if isinstance(event, VideoStored):
            return begins(event)
        return not isinstance(event, AttemptFailed | EntryParked) or event.group in GROUPS

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """The row after the event."""
        return folded(row, recorded, previews=self.settings.previews)


def folded(row: Row | None, recorded: Recorded[Any], *, previews: bool) -> Row | None:
    """A row of the table after an event; the same object where nothing changed."""
    event = recorded.event
    if begins(event):
        if row is not None and event.revision <= row["revision"]:
            return row
        base = _begun(row, recorded)
    elif row is None or revision_of(event) not in {None, row["revision"]}:
        return row
    else:
        base = row
    at, changed = tables.utc(recorded.time), _outcome(base, recorded)
    if (name := name_in(event)) is not None:
        changed["filename"] = name
    for change in changes(event, previews=previews):
        prefix = COLUMNS[change.task]
        changed |= {
            f"{prefix}_status": change.status,
            f"{prefix}_message": change.message,
            f"{prefix}_error": change.error,
            f"{prefix}_at": at,
            f"{prefix}_ver": recorded.ver,
        }
    return {**base, **changed} if changed else row


def _begun(row: Row | None, recorded: Recorded[VideoStored | FileSettled]) -> Row:
    """A row for new content; of a former one who asks for it stays."""
    event = recorded.event
    client = event.client_id if isinstance(event, VideoStored) else None
    return {
        **_EMPTY,
        "id": recorded.subject,
        "client_id": client[:MAX_CLIENT] if client else row["client_id"] if row else None,
        "door": event.door if isinstance(event, VideoStored) else "watch",
        "revision": event.revision,
        "created": row["created"] if row else tables.utc(recorded.time),
    }


def _outcome(row: Row, recorded: Recorded[Any]) -> Row:
    """Columns for what came of the work."""
    event = recorded.event
    match event:
        case RenditionStored():
            others = [one for one in _list(row["renditions"]) if one["id"] != event.rendition]
            return {"renditions": _json([_rendition(recorded), *others][:MAX_RENDITIONS])}
        case PreviewsMade():
            return {"previews": _json(_pictures(event))}
        case VideoProbed():
            return {"metadata": None if event.metadata is None else _json(event.metadata)}
    return {}


def _rendition(recorded: Recorded[RenditionStored]) -> Row:
    """As in `streams.media.Rendition`, paths escaped."""
    event = recorded.event
    return {
        "id": event.rendition,
        "revision": event.revision,
        "preset": event.preset,
        "kind": event.kind,
        "action": event.action,
        "path": escape_path(event.path),
        "playlist": None if event.playlist is None else escape_path(event.playlist),
        "mime": event.mime,
        "size": event.size,
        "sha256": event.sha256,
        "duration": event.duration,
        "width": event.width,
        "height": event.height,
        "codecs": event.codecs,
        "bit_rate": event.bit_rate,
        "stored": recorded.time.isoformat(),
    }


def _pictures(event: PreviewsMade) -> Row:
    """As in `streams.media.PreviewFiles`, paths escaped."""
    paths = {
        "poster": event.poster,
        "poster_webp": event.poster_webp,
        "sprite": event.sprite,
        "thumbnails": event.thumbnails,
    }
    return {
        "revision": event.revision,
        **{name: None if path is None else escape_path(path) for name, path in paths.items()},
        "width": event.width,
        "height": event.height,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _list(text: str | None) -> list[Row]:
    found: list[Row] = [] if text is None else orjson.loads(text)
    return found


assert set(COLUMNS) == set(TASKS)
