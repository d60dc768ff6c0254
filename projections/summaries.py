"""An event in one line that a person reads."""

from __future__ import annotations

from functools import singledispatch

import orjson

from streams import events
from streams.codec import shown
from streams.paths import escape_path

MAX_SUMMARY = 2000
"""Characters; a line, not a page."""


def summary(event: events.Event) -> str:
    """What happened, in one line. Events that no one has worded yet show their fields."""
    return _worded(event).replace("\n", " ")[:MAX_SUMMARY]


def megabytes(size: int) -> str:
    """`15.50 MB`: 2^20 bytes, two decimals."""
    return f"{size / 2**20:.2f} MB"


@singledispatch
def _worded(event: events.Event) -> str:
    fields = orjson.loads(shown(event))
    return f"{type(event).__name__}: " + ", ".join(f"{name} {value}" for name, value in fields.items())


@_worded.register
def _(event: events.VideoStored) -> str:
    came = "Found in the upload folder" if event.adopted else f"Received by {event.door}"
    damaged = f"; it looks damaged: {event.damaged}" if event.damaged else ""
    return f"{came} and stored as {escape_path(event.stored_name)} ({megabytes(event.size)}, {event.mime}){damaged}"


@_worded.register
def _(event: events.FileSettled) -> str:
    what = "Complete" if event.revision == 1 else f"Replaced, revision {event.revision} complete"
    return f"{what}: {escape_path(event.relative)} ({megabytes(event.size)}), number {event.number}"


@_worded.register
def _(event: events.FileMoved) -> str:
    return f"Moved from {escape_path(event.former)} to {escape_path(event.relative)}"


@_worded.register
def _(event: events.FileRemoved) -> str:
    return f"Removed: {escape_path(event.relative)}"


@_worded.register
def _(event: events.FileReturned) -> str:
    return f"Back again: {escape_path(event.relative)}"


@_worded.register
def _(event: events.RowAdopted) -> str:
    return f"Row {event.number} of the videos table adopted: {event.path} (status {event.status})"


@_worded.register
def _(event: events.VideoProbed) -> str:
    length = "unknown length" if event.duration is None else f"{event.duration:.1f} s"
    sound = event.audio_codec or "no sound"
    return f"Read as a video: {length}, {event.width}×{event.height}, {event.video_codec}, {sound}"


@_worded.register
def _(event: events.VideoProbeFailed) -> str:
    return f"Could not be read as a video: {event.reason}"


@_worded.register
def _(event: events.AttemptFailed) -> str:
    at = event.retry_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{event.group} failed (attempt {event.attempt}), again at {at}: {event.reason}"


@_worded.register
def _(event: events.EntryParked) -> str:
    return f"{event.group} gave up after {event.attempts} attempts: {event.reason}"


@_worded.register
def _(event: events.RootRegistered) -> str:
    return f"Folder watched: {escape_path(event.path)}"


@_worded.register
def _(event: events.RootHeld) -> str:
    return f"Folder held, {event.missing} files missing: {event.reason} ({escape_path(event.path)})"


@_worded.register
def _(event: events.RootReleased) -> str:
    return f"Folder released ({event.answer}): {escape_path(event.path)}"


@_worded.register
def _(event: events.EpochRaised) -> str:
    return f"The log had lost its tail: epoch {event.epoch}, {event.reappended} events re-appended. {event.reason}"
