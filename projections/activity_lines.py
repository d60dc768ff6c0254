"""The lines of the activity log, event by event: (level, message)."""

from __future__ import annotations

import os
from typing import Any

from projections.summaries import megabytes
from streams.codec import Recorded
from streams.events import (
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    RootHeld,
    RootReleased,
    VideoStored,
)
from streams.paths import escape_path

Lines = list[tuple[str, str]]


def upload_lines(recorded: Recorded[Any]) -> Lines:
    """What `video_uploads.log` says of an event: uploads only, and not those that lay there before."""
    event = recorded.event
    if not isinstance(event, VideoStored) or event.door != "upload" or event.adopted:
        return []
    return [
        ("INFO", f"Received video upload: {escape_path(event.filename)} ({megabytes(event.size)}, {event.mime})"),
        ("INFO", f"Video saved locally: {escape_path(event.stored_name)} ({event.size} bytes)"),
    ]


def notifier_lines(recorded: Recorded[Any]) -> Lines:
    """What the notifier's daily file says of an event: watched files only."""
    event = recorded.event
    if isinstance(event, FileSettled):
        what = "New video" if event.revision == 1 else "Video replaced"
        return [("INFO", f"{what}: {_path(event)} ({event.size} bytes, id {event.number})")]
    if isinstance(event, FileMoved):
        former = escape_path(os.path.join(event.root, event.former))
        return [("INFO", f"Video moved: {former} -> {_path(event)}")]
    if isinstance(event, FileRemoved):
        return [("INFO", f"Video removed: {_path(event)}")]
    if isinstance(event, FileReturned):
        return [("INFO", f"Video back again: {_path(event)}")]
    if isinstance(event, RootHeld):
        return [("WARNING", f"Folder held, {event.missing} files missing: {escape_path(event.path)} ({event.reason})")]
    if isinstance(event, RootReleased):
        return [("INFO", f"Folder released ({event.answer}): {escape_path(event.path)}")]
    return []


def _path(event: FileSettled | FileMoved | FileRemoved | FileReturned) -> str:
    return escape_path(os.path.join(event.root, event.relative))
