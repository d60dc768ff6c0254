"""What became of each copy elsewhere: one row for a video in each place where copies lie.

The row tells of the newest copy that was begun there, and of which revision it is; a video whose
content was replaced since has a newer revision than its row. Chunks come by the thousands: folding
one moves a number, and a batch of them writes the row once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Text

from projections import tables
from projections.projection import RowFold
from streams.codec import Recorded
from streams.events import (
    AttemptFailed,
    ChunkUploaded,
    DriveFileUploaded,
    DriveOffsetReached,
    DriveSessionOpened,
    DriveUploadCompleted,
    DriveUploadFailed,
    DriveUploadStarted,
    EntryParked,
    Replica,
    ReplicaDamaged,
    ReplicaRepaired,
    ReplicationAbandoned,
    ReplicationCompleted,
    ReplicationStarted,
    ReplicaVerified,
)

Row = dict[str, Any]
Change = Row | None
"""Columns that change; None: nothing does."""

PLACES: tuple[Replica, ...] = ("s3", "drive")

GROUPS: dict[str, Replica] = {"replicate": "s3", "drive": "drive"}
"""Whose failures are those of a copy."""

MAX_FAULT = 4000
"""Characters."""

replicas = tables.table(
    "replicas",
    # <video>/<replica>
    Column("id", tables.identifier(), primary_key=True),
    Column("video", tables.identifier(), nullable=False),
    # s3, drive
    Column("replica", String(16), nullable=False),
    # 0: it failed before anything was begun
    Column("revision", Integer, nullable=False),
    # started, complete, abandoned, failed (it is tried again, unless parked), damaged
    Column("state", String(16), nullable=False),
    # the stream id, or the Drive file's id; empty where there is none yet
    Column("target", String(255), nullable=False),
    # the object store as people read it, or the Drive folder's id
    Column("store", Text),
    Column("size", tables.size()),
    # bytes, from the start, up to which something was received there: how far it is
    Column("reached", tables.size(), nullable=False),
    Column("chunk_size", BigInteger),
    Column("chunks", Integer),
    Column("sha256", String(64)),
    Column("md5", String(32)),
    Column("link", Text),
    Column("started", tables.moment()),
    Column("completed", tables.moment()),
    # last found whole, since it was completed or damaged
    Column("verified", tables.moment()),
    Column("verified_deep", Boolean, nullable=False),
    Column("fault", Text),
    # how many episodes of Drive failures there were
    Column("episode", Integer, nullable=False),
    Column("updated", tables.moment(), nullable=False),
)


def key(video: str, replica: str) -> str:
    """The primary key of a row."""
    return f"{video}/{replica}"


class ReplicasProjection(RowFold):
    """Folds what happens to copies."""

    name = "replicas"
    version = 1
    tables = (replicas,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """What happens to a video's copies; what is sent of a file that still grows is no copy yet."""
        return type(recorded.event) in _CHANGES and ":" not in recorded.subject and _place(recorded.event) is not None

    def key(self, recorded: Recorded[Any]) -> str | None:
        """The row of the place that the event tells of."""
        replica = _place(recorded.event)
        return None if replica is None else key(recorded.subject, replica)

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """The row after the event."""
        at = tables.utc(recorded.time)
        changed = _CHANGES[type(recorded.event)](row, recorded.event, at)
        if changed is None:
            return row
        if row is not None:
            return {**row, **changed, "updated": at}
        replica = _place(recorded.event)
        names = {"id": key(recorded.subject, str(replica)), "video": recorded.subject, "replica": replica}
        return {**_EMPTY, **names, **changed, "updated": at}


# ---------------------------------------------------------------- to the object store


def _begun(row: Row | None, event: ReplicationStarted, at: datetime) -> Change:
    if row is not None and event.revision < row["revision"]:
        return None
    # Begun again in the same store: what it has stays sent.
    again = row is not None and (row["target"], row["store"]) == (event.stream_id, event.store)
    return {
        **_FRESH,
        "revision": event.revision,
        "target": event.stream_id,
        "store": event.store,
        "size": event.size,
        "reached": row["reached"] if row is not None and again else 0,
        "chunk_size": event.chunk_size,
        "started": at,
    }


def _chunk(row: Row | None, event: ChunkUploaded, _: datetime) -> Change:
    # A complete copy's chunk is sent again when it is repaired: that is told by itself.
    if row is None or row["target"] != event.stream_id or row["state"] not in _UNDER_WAY:
        return None
    return {"state": "started", "fault": None, "reached": max(row["reached"], event.offset + event.size)}


def _completed(row: Row | None, event: ReplicationCompleted, at: datetime) -> Change:
    if row is not None and event.revision < row["revision"]:
        return None
    same = row is not None and row["target"] == event.stream_id
    return {
        **({"fault": None} if same else {**_FRESH, "started": at}),
        "state": "complete",
        "revision": event.revision,
        "target": event.stream_id,
        "store": event.store,
        "size": event.size,
        "reached": event.size,
        "chunk_size": event.chunk_size,
        "chunks": event.chunks,
        "sha256": event.sha256,
        "completed": at,
    }


def _abandoned(row: Row | None, event: ReplicationAbandoned, _: datetime) -> Change:
    if row is None or row["target"] != event.stream_id:
        return None
    return {"state": "abandoned", "fault": event.reason[:MAX_FAULT], **_UNVERIFIED, "completed": None}


# ---------------------------------------------------------------- to Google Drive


def _drive_begun(row: Row | None, event: DriveUploadStarted, at: datetime) -> Change:
    if row is not None and event.revision < row["revision"]:
        return None
    return {
        **_FRESH,
        "revision": event.revision,
        "target": event.file_id,
        "store": event.folder_id,
        "size": event.size,
        "started": at,
    }


def _drive_reached(row: Row | None, event: DriveSessionOpened | DriveOffsetReached, _: datetime) -> Change:
    if row is None or row["target"] != event.file_id or row["state"] not in _UNDER_WAY:
        return None
    reached = event.offset if isinstance(event, DriveOffsetReached) else 0  # a new session begins anew
    return {"state": "started", "fault": None, "reached": reached}


def _drive_uploaded(row: Row | None, event: DriveFileUploaded, _: datetime) -> Change:
    if row is None or row["target"] != event.file_id:
        return None
    return {"reached": event.size, "md5": event.md5}


def _drive_completed(row: Row | None, event: DriveUploadCompleted, at: datetime) -> Change:
    if row is None or row["target"] != event.file_id:
        return None
    return {
        "state": "complete",
        "size": event.size,
        "reached": event.size,
        "md5": event.md5,
        "link": event.link,
        "completed": at,
        "fault": None,
    }


def _drive_failed(row: Row | None, event: DriveUploadFailed, _: datetime) -> Change:
    if row is not None and event.revision < row["revision"]:
        return None
    told = {"fault": event.reason[:MAX_FAULT], "episode": event.episode}
    if row is None or row["revision"] != event.revision:
        return {**_FRESH, **told, "state": "failed", "revision": event.revision}
    return {**told, "state": "failed"} if row["state"] in _UNDER_WAY else told


# ---------------------------------------------------------------- to either


def _attempt_failed(row: Row | None, event: AttemptFailed, _: datetime) -> Change:
    if row is None:
        return {**_FRESH, "state": "failed", "revision": 0, "fault": event.reason[:MAX_FAULT]}
    return {"state": "failed", "fault": event.reason[:MAX_FAULT]} if row["state"] in _UNDER_WAY else None


def _parked(row: Row | None, event: EntryParked, _: datetime) -> Change:
    told = {"fault": event.reason[:MAX_FAULT]}
    if row is None:
        return {**_FRESH, **told, "state": "failed", "revision": 0}
    return {**told, "state": "failed"} if row["state"] in _UNDER_WAY else told


def _verified(row: Row | None, event: ReplicaVerified, at: datetime) -> Change:
    if row is None or not _is_of(row, event.target):
        return None
    return {**_whole(row), "verified": at, "verified_deep": event.deep}


def _damaged(row: Row | None, event: ReplicaDamaged, _: datetime) -> Change:
    if row is None or not _is_of(row, event.target):
        return None
    fault = "; ".join(event.faults) or f"{event.missing} missing, {event.wrong} wrong"
    state = row["state"] if row["completed"] is None else "damaged"
    return {"state": state, "fault": fault[:MAX_FAULT], **_UNVERIFIED}


def _repaired(row: Row | None, event: ReplicaRepaired, _: datetime) -> Change:
    return None if row is None or not _is_of(row, event.target) else _whole(row)


def _is_of(row: Row, target: str) -> bool:
    """Whether a look at a target is one at the copy that the row tells of."""
    return bool(row["target"] == target) and row["state"] != "abandoned"


def _whole(row: Row) -> Row:
    return {"fault": None, "state": row["state"] if row["completed"] is None else "complete"}


_UNDER_WAY = frozenset({"started", "failed"})
_UNVERIFIED: Row = {"verified": None, "verified_deep": False}
_FRESH: Row = {
    "state": "started",
    "target": "",
    "reached": 0,
    **dict.fromkeys(
        ("store", "size", "chunk_size", "chunks", "sha256", "md5", "link", "started", "completed", "fault")
    ),
    **_UNVERIFIED,
}
_EMPTY: Row = {**{column.name: None for column in replicas.columns}, "episode": 0}

_PLACES: dict[type[Any], Replica] = {
    ReplicationStarted: "s3",
    ChunkUploaded: "s3",
    ReplicationCompleted: "s3",
    ReplicationAbandoned: "s3",
    DriveUploadStarted: "drive",
    DriveSessionOpened: "drive",
    DriveOffsetReached: "drive",
    DriveFileUploaded: "drive",
    DriveUploadCompleted: "drive",
    DriveUploadFailed: "drive",
}
_CHANGES: dict[type[Any], Callable[[Row | None, Any, datetime], Change]] = {
    ReplicationStarted: _begun,
    ChunkUploaded: _chunk,
    ReplicationCompleted: _completed,
    ReplicationAbandoned: _abandoned,
    DriveUploadStarted: _drive_begun,
    DriveSessionOpened: _drive_reached,
    DriveOffsetReached: _drive_reached,
    DriveFileUploaded: _drive_uploaded,
    DriveUploadCompleted: _drive_completed,
    DriveUploadFailed: _drive_failed,
    AttemptFailed: _attempt_failed,
    EntryParked: _parked,
    ReplicaVerified: _verified,
    ReplicaDamaged: _damaged,
    ReplicaRepaired: _repaired,
}


def _place(event: Any) -> Replica | None:
    """Which copy an event tells of; None: of none."""
    if isinstance(event, (AttemptFailed, EntryParked)):
        return GROUPS.get(event.group)
    if isinstance(event, (ReplicaVerified, ReplicaDamaged, ReplicaRepaired)):
        return event.replica
    return _PLACES.get(type(event))
