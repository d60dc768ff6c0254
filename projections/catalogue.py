"""The catalogue: one row for each video, whichever door it came in by."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Text

from projections import tables
from projections.metadata_facts import NOTHING, facts_in
from projections.projection import RowFold
from streams.codec import Recorded
from streams.events import (
    DriveUploadCompleted,
    EnhancementCompleted,
    EnhancementFailed,
    EntryParked,
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    PreviewsFailed,
    PreviewsMade,
    RenditionStored,
    ReplicationCompleted,
    RowAdopted,
    VideoOffloaded,
    VideoProbed,
    VideoProbeFailed,
    VideoRestored,
    VideoStored,
)
from streams.paths import escape_path

Row = dict[str, Any]

catalogue = tables.table(
    "catalogue",
    Column("id", tables.identifier(), primary_key=True),
    Column("door", String(16), nullable=False),
    # present, removed; offloaded: given up here on purpose, its copies are whole;
    # adopted: a row of the legacy table whose file was never seen
    Column("state", String(16), nullable=False),
    Column("filename", tables.name(), nullable=False),
    Column("stored_name", tables.name()),
    Column("path", Text, nullable=False),
    Column("root", Text),
    Column("relative", Text),
    Column("number", BigInteger),
    Column("size", tables.size()),
    Column("mime", String(255)),
    Column("label", Text),
    Column("original_name", Text),
    # of watched files known once they were copied
    Column("sha256", String(64)),
    # received, or first seen
    Column("created", tables.moment(), nullable=False),
    Column("modified", tables.moment()),
    Column("revision", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("device", BigInteger),
    Column("inode", BigInteger),
    Column("modified_ns", BigInteger),
    Column("moves", Integer, nullable=False),
    Column("removals", Integer, nullable=False),
    # of the subject: the last one that was folded
    Column("ver", BigInteger, nullable=False),
    # lay there before Spoolhouse did
    Column("adopted", Boolean, nullable=False),
    Column("damaged", Text),
    Column("duration", tables.real()),
    Column("width", Integer),
    Column("height", Integer),
    Column("video_codec", String(64)),
    Column("audio_codec", String(64)),
    Column("container", String(255)),
    Column("frame_rate", tables.real()),
    Column("bit_rate", BigInteger),
    # of the metadata document: what is searched for
    Column("title", tables.name()),
    # when it was recorded, as the file says it
    Column("recorded", String(64)),
    Column("profile", String(64)),
    Column("pixel_format", String(64)),
    # degrees clockwise
    Column("rotation", Integer),
    Column("hdr", Boolean),
    Column("channels", Integer),
    # what people wrote into the file, in lower case
    Column("words", Text),
    Column("probe_error", Text),
    # `<group>: <reason>`, a line for each processor that has given up on it
    Column("parked", Text),
    Column("client_id", Text),
    # whether there are pictures of the current content
    Column("poster", Boolean, nullable=False),
    # the newest rendition of the current content that is one file
    Column("playable", tables.identifier()),
    # of a rendition: the video that it was made of
    Column("rendition_of", tables.identifier()),
    Column("updated", tables.moment(), nullable=False),
    Index("ix_catalogue_created", "created", "id"),
    Index("ix_catalogue_size", "size", "id"),
    Index("ix_catalogue_sha256", "sha256"),
    Index("ix_catalogue_number", "number"),
    Index("ix_catalogue_stored_name", "stored_name", mysql_length=255),
    Index("ix_catalogue_relative", "relative", mysql_length=255),
)

_EPOCH = tables.utc(datetime(1970, 1, 1, tzinfo=UTC))
_EMPTY: Row = {**{column.name: None for column in catalogue.columns}, "poster": False}


class CatalogueProjection(RowFold):
    """Folds everything that happens to a video into its row."""

    name = "catalogue"
    version = 3
    tables = (catalogue,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Subjects that are videos: the others have a colon in their names."""
        return ":" not in recorded.subject

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """The row after the event."""
        change = _CHANGES.get(type(recorded.event))
        if row is None and type(recorded.event) not in _FIRSTS:
            return None
        changed = change(row, recorded) if change else {}
        return {**(row or _EMPTY), **changed, "ver": recorded.ver, "updated": tables.utc(recorded.time)}


def _stored(row: Row | None, recorded: Recorded[VideoStored]) -> Row:
    event = recorded.event
    return {
        "id": recorded.subject,
        "door": event.door,
        "state": "present",
        "filename": escape_path(event.filename),
        "stored_name": escape_path(event.stored_name),
        "path": escape_path(event.path),
        "size": event.size,
        "mime": event.mime[:255],
        "label": event.label,
        "original_name": event.original_name,
        "sha256": event.sha256,
        "created": row["created"] if row else tables.utc(event.received_at),
        "modified": tables.utc(event.modified_at),
        "revision": event.revision,
        "generation": 0,
        "moves": 0,
        "removals": row["removals"] if row else 0,
        "adopted": event.adopted,
        "damaged": event.damaged,
        "client_id": event.client_id,
        "rendition_of": event.rendition_of,
    }


def _settled(row: Row | None, recorded: Recorded[FileSettled]) -> Row:
    event = recorded.event
    new_content = row is None or row["revision"] != event.revision
    return {
        "id": recorded.subject,
        "door": "watch",
        "root": escape_path(event.root),
        **_place(event.root, event.relative),
        **_identity(event),
        "number": event.number,
        "created": row["created"] if row else tables.utc(recorded.time),
        "revision": event.revision,
        "generation": event.generation,
        "moves": row["moves"] if row else 0,
        "removals": row["removals"] if row else 0,
        "adopted": row["adopted"] if row else False,
        # What was read of the former content says nothing about this one.
        **(_UNREAD if new_content else {}),
    }


def _moved(_: Row | None, recorded: Recorded[FileMoved]) -> Row:
    event = recorded.event
    return {
        "root": escape_path(event.root),
        **_place(event.root, event.relative),
        **_identity(event),
        "moves": event.move,
    }


def _removed(row: Row | None, recorded: Recorded[FileRemoved]) -> Row:
    # A watcher that misses an offloaded file says nothing new.
    offloaded = row is not None and row["state"] == "offloaded"
    return {"state": "offloaded" if offloaded else "removed", "removals": recorded.event.removal}


def _returned(_: Row | None, recorded: Recorded[FileReturned]) -> Row:
    event = recorded.event
    return {"root": escape_path(event.root), **_place(event.root, event.relative), **_identity(event)}


def _adopted(row: Row | None, recorded: Recorded[RowAdopted]) -> Row:
    event = recorded.event
    if row is not None:
        return {"number": event.number}
    path = escape_path(event.path)
    return {
        "id": recorded.subject,
        "door": "watch",
        "state": "adopted",
        "filename": os.path.basename(path)[:1024] or path[:1024],
        "path": path,
        "number": event.number,
        "created": tables.utc(_local(event.created) or recorded.time),
        "revision": 0,
        "generation": 0,
        "moves": 0,
        "removals": 0,
        "adopted": True,
    }


def _offloaded(row: Row | None, _: Recorded[VideoOffloaded]) -> Row:
    if row is None or row["device"] is None:
        return {"state": "offloaded"}
    # A watched file that is put back has another inode: the watcher then goes by size and modification time.
    return {"state": "offloaded", "device": 0, "inode": 0, "removals": row["removals"] + 1}


def _restored(_: Row | None, __: Recorded[VideoRestored]) -> Row:
    return {"state": "present"}


def _probed(row: Row | None, recorded: Recorded[VideoProbed]) -> Row:
    event = recorded.event
    if row is None or event.revision != row["revision"]:
        return {}
    return {
        "container": event.container[:255],
        "duration": event.duration,
        "width": event.width,
        "height": event.height,
        "video_codec": event.video_codec[:64],
        "audio_codec": event.audio_codec and event.audio_codec[:64],
        "frame_rate": event.frame_rate,
        "bit_rate": event.bit_rate,
        **facts_in(event.metadata),
        # Of an upload that was known when it came in.
        "damaged": row["damaged"] or event.damaged,
        "probe_error": None,
        "parked": _unparked(row, "probe"),
    }


def _probe_failed(row: Row | None, recorded: Recorded[VideoProbeFailed]) -> Row:
    event = recorded.event
    if row is None or event.revision != row["revision"]:
        return {}
    return {"probe_error": event.reason, "parked": _unparked(row, "probe")}


def _replicated(row: Row | None, recorded: Recorded[ReplicationCompleted]) -> Row:
    event = recorded.event
    if row is None or event.revision != row["revision"]:
        return {}
    return {"sha256": row["sha256"] or event.sha256, "parked": _unparked(row, "replicate")}


def _on_drive(row: Row | None, recorded: Recorded[DriveUploadCompleted]) -> Row:
    if row is None or recorded.event.revision != row["revision"]:
        return {}
    return {"parked": _unparked(row, "drive")}


def _enhanced(row: Row | None, _: Recorded[EnhancementCompleted | EnhancementFailed]) -> Row:
    return {"parked": _unparked(row, "enhance")}


def _rendered(row: Row | None, recorded: Recorded[RenditionStored]) -> Row:
    event = recorded.event
    if row is None or event.revision != row["revision"] or event.kind != "progressive":
        return {}
    return {"playable": event.rendition}


def _previewed(row: Row | None, recorded: Recorded[PreviewsMade | PreviewsFailed]) -> Row:
    event = recorded.event
    if row is None or event.revision != row["revision"]:
        return {}
    return {"poster": isinstance(event, PreviewsMade), "parked": _unparked(row, "previews")}


def _parked(row: Row | None, recorded: Recorded[EntryParked]) -> Row:
    event = recorded.event
    others = _unparked(row, event.group)
    line = f"{event.group}: {' '.join(event.reason.splitlines())}"
    return {"parked": line if others is None else f"{others}\n{line}"}


def _unparked(row: Row | None, group: str) -> str | None:
    """The note of what is parked without a group that goes on again."""
    if row is None or row["parked"] is None:
        return None
    lines = [line for line in row["parked"].split("\n") if not line.startswith(f"{group}: ")]
    return "\n".join(lines) or None


_UNREAD: Row = {"poster": False, **NOTHING} | dict.fromkeys(
    (
        "playable",
        "damaged",
        "sha256",
        "duration",
        "width",
        "height",
        "video_codec",
        "audio_codec",
        "container",
        "frame_rate",
        "bit_rate",
        "probe_error",
        "parked",
    )
)
_FIRSTS = frozenset({VideoStored, FileSettled, RowAdopted})
_CHANGES: dict[type[Any], Callable[[Row | None, Recorded[Any]], Row]] = {
    VideoStored: _stored,
    FileSettled: _settled,
    FileMoved: _moved,
    FileRemoved: _removed,
    FileReturned: _returned,
    RowAdopted: _adopted,
    VideoProbed: _probed,
    VideoProbeFailed: _probe_failed,
    EntryParked: _parked,
    ReplicationCompleted: _replicated,
    DriveUploadCompleted: _on_drive,
    EnhancementCompleted: _enhanced,
    EnhancementFailed: _enhanced,
    RenditionStored: _rendered,
    PreviewsMade: _previewed,
    PreviewsFailed: _previewed,
    VideoOffloaded: _offloaded,
    VideoRestored: _restored,
}


def _place(root: str, relative: str) -> Row:
    inside = escape_path(relative)
    return {
        "filename": os.path.basename(inside),
        "path": escape_path(os.path.join(root, relative)),
        "relative": inside,
        "state": "present",
    }


def _identity(event: FileSettled | FileMoved | FileReturned) -> Row:
    return {
        "size": event.size,
        "modified": _instant(event.modified_ns),
        "modified_ns": event.modified_ns,
        "device": tables.signed(event.device),
        "inode": tables.signed(event.inode),
    }


def _instant(nanoseconds: int) -> datetime | None:
    """An mtime as a time, where it is one: a file may claim any year."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None


def _local(text: str | None) -> datetime | None:
    """A time that a legacy row holds: local, without a zone."""
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None  # MySQL may hold 0000-00-00
