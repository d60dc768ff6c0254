"""The lines of the activity log, event by event: (level, message)."""

from __future__ import annotations

import os
from typing import Any

from projections.summaries import megabytes, summary
from streams.codec import Recorded
from streams.events import (
    DiskSpaceLow,
    DiskSpaceRecovered,
    DriveFileUploaded,
    DrivePermissionsSet,
    DriveUploadCompleted,
    DriveUploadFailed,
    DriveUploadStarted,
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
    """What `video_uploads.log` says of an event: uploads and their way to Drive, and room on disks.

    Uploads that lay there before were not received; their way to Drive is told all the same.
    """
    event = recorded.event
    if isinstance(event, DiskSpaceLow):
        return [("WARNING", summary(event))]
    if isinstance(event, DiskSpaceRecovered):
        return [("INFO", summary(event))]
    if getattr(event, "door", None) != "upload":
        return []
    if isinstance(event, VideoStored):
        return [] if event.adopted else _stored(event)
    return _drive(event)


def _stored(event: VideoStored) -> Lines:
    return [
        ("INFO", f"Received video upload: {escape_path(event.filename)} ({megabytes(event.size)}, {event.mime})"),
        ("INFO", f"Video saved locally: {escape_path(event.stored_name)} ({event.size} bytes)"),
    ]


def _drive(event: Any) -> Lines:
    """People count these: each stands once for a Drive file, those of a failure once for an episode.

    A Drive file that turned out to differ is given up and another one begun: that start has a line
    of its own, since every byte is sent again. So has a start that failed before Drive knew of any
    file: bad credentials, say.
    """
    match event:
        case DriveUploadStarted():
            return [("INFO", f"Starting Drive upload for: {event.filename}")]
        case DriveFileUploaded():
            return [("INFO", f"Drive upload successful: {event.filename} (ID: {event.file_id})")]
        case DrivePermissionsSet():
            return [("INFO", f"Permissions set for: {event.filename} (ID: {event.file_id})")]
        case DriveUploadCompleted():
            path = escape_path(event.path)
            return [("INFO", f"✓ Complete upload success: {event.filename} (Drive ID: {event.file_id}, Local: {path})")]
        case DriveUploadFailed():
            path = escape_path(event.path)
            start = [] if event.begun else [("INFO", f"Starting Drive upload for: {event.filename}")]
            return [
                *start,
                ("ERROR", f"Drive upload failed for {event.filename}: {event.reason}"),
                ("INFO", f"Video backup available at: {path}"),
                ("WARNING", f"Drive upload failed but video is saved locally: {path}"),
            ]
    return []


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
