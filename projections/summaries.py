"""An event in one line that a person reads."""

from __future__ import annotations

from functools import singledispatch

import orjson

from projections import download_summaries
from streams import events
from streams.codec import shown
from streams.paths import escape_path

MAX_SUMMARY = 2000
"""Characters; a line, not a page."""


def summary(event: events.Event) -> str:
    """What happened, in one line. Events that no one has worded yet show their fields."""
    return _worded(event).replace("\n", " ")[:MAX_SUMMARY]


def run_key(event: events.Event) -> str | None:
    """What events have in common that come in a run; None: this one comes singly."""
    match event:
        case events.ChunkUploaded() | events.ChunkDispatched():
            return event.stream_id
        case events.DriveOffsetReached():
            return f"{event.file_id}/{event.session}"[:255]
    return None


def run_summary(event: events.Event) -> str:
    """What happened by and by, told by the newest event of a run."""
    if isinstance(event, events.ChunkUploaded):
        return f"Chunks up to number {event.index} are in the object store ({_through(event)})"
    return summary(event)


def megabytes(size: int) -> str:
    """`15.50 MB`: 2^20 bytes, two decimals."""
    return f"{size / 2**20:.2f} MB"


def gigabytes(size: int) -> str:
    """`1.25 GB`: 2^30 bytes, two decimals."""
    return f"{size / 2**30:.2f} GB"


def counted(count: int, what: str) -> str:
    """`1 chunk`, `2 chunks`."""
    return f"{count} {what}" + ("" if count == 1 else "s")


@singledispatch
def _worded(event: events.Event) -> str:
    if (told := download_summaries.worded(event)) is not None:
        return told
    fields = orjson.loads(shown(event))
    return f"{type(event).__name__}: " + ", ".join(f"{name} {value}" for name, value in fields.items())


@_worded.register
def _(event: events.VideoStored) -> str:
    came = "Found in the upload folder" if event.adopted else f"Received by {event.door}"
    if event.door == "download":
        came = "Downloaded"
    if event.door == "rendition":
        came = f"Made of {event.rendition_of}" if event.rendition_of else "Made here"
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
def _(event: events.ReplicationStarted) -> str:
    return (
        f"Copy to {event.store} began: {megabytes(event.size)} in chunks of {megabytes(event.chunk_size)}, "
        f"stream {_short(event.stream_id)}"
    )


@_worded.register
def _(event: events.ChunkUploaded) -> str:
    return f"Chunk {event.index} is in the object store ({_through(event)})"


@_worded.register
def _(event: events.ChunkDispatched) -> str:
    return f"Chunk {event.index} is on its way to the object store{', once more' if event.again else ''}"


@_worded.register
def _(event: events.ReplicationCompleted) -> str:
    return (
        f"Copy to {event.store} complete: {megabytes(event.size)} in {counted(event.chunks, 'chunk')}, "
        f"stream {_short(event.stream_id)}"
    )


@_worded.register
def _(event: events.ReplicationAbandoned) -> str:
    return f"Copy to the object store given up and removed (stream {_short(event.stream_id)}): {event.reason}"


@_worded.register
def _(event: events.ReplicationRequested) -> str:
    return f"Copy to the object store asked for{_because(event.reason)}"


@_worded.register
def _(event: events.DriveUploadStarted) -> str:
    return f"Upload to Google Drive began: {escape_path(event.filename)} ({megabytes(event.size)}, id {event.file_id})"


@_worded.register
def _(event: events.DriveSessionOpened) -> str:
    return f"Google Drive opened upload session {event.session}"


@_worded.register
def _(event: events.DriveOffsetReached) -> str:
    return f"Google Drive has {megabytes(event.offset)} of {megabytes(event.size)}"


@_worded.register
def _(event: events.DriveFileUploaded) -> str:
    return f"Google Drive has the whole file ({megabytes(event.size)}, MD5 {event.md5})"


@_worded.register
def _(event: events.DrivePermissionsSet) -> str:
    whom = "anyone who has the link" if event.shared_with == "anyone" else event.shared_with
    return f"The file in Google Drive may be seen by {whom}"


@_worded.register
def _(event: events.DriveUploadCompleted) -> str:
    return f"Copy in Google Drive complete: {event.link}"


@_worded.register
def _(event: events.DriveUploadFailed) -> str:
    return f"Upload to Google Drive failed; it is tried again by itself: {event.reason}"


@_worded.register
def _(event: events.DriveUploadRequested) -> str:
    return f"Upload to Google Drive asked for{_because(event.reason)}"


@_worded.register
def _(event: events.ReplicaVerified) -> str:
    how = "every byte read" if event.deep else "sizes and checksums compared"
    return f"Copy {_PLACES[event.replica]} verified: whole ({counted(event.objects, 'object')}, {megabytes(event.size)}, {how})"


@_worded.register
def _(event: events.ReplicaDamaged) -> str:
    faults = "; ".join(event.faults)
    return f"Copy {_PLACES[event.replica]} damaged: {event.missing} missing, {event.wrong} wrong. {faults}".rstrip()


@_worded.register
def _(event: events.ReplicaRepaired) -> str:
    source = "the local file" if event.source == "local" else f"the copy {_PLACES[event.source]}"
    return f"Copy {_PLACES[event.replica]} repaired from {source}: {counted(event.objects, 'object')}, {megabytes(event.size)} sent"


@_worded.register
def _(event: events.VideoOffloaded) -> str:
    places = " and ".join(_PLACES[one] for one in event.replicas)
    return f"Offloaded: the local file was removed ({megabytes(event.size)} freed), copies are {places}"


@_worded.register
def _(event: events.VideoRestored) -> str:
    return f"Fetched back from the copy {_PLACES[event.replica]}: {escape_path(event.path)} ({megabytes(event.size)})"


@_worded.register
def _(event: events.EnhancementRequested) -> str:
    preset = f" with the preset {event.preset}" if event.preset else ""
    ladder = ", and a ladder for streaming" if event.hls else ""
    return f"Enhancement{preset}{ladder} asked for{_because(event.reason)}"


@_worded.register
def _(event: events.EnhancementStarted) -> str:
    how = "takes its streams as they are" if event.action == "remux" else f"is encoded with {event.encoder}"
    return f"{_rendition(event)} {how}: {event.reason}"


@_worded.register
def _(event: events.RenditionStored) -> str:
    more = "".join(f"; {one}" for one in (*event.warnings, *([event.damage] if event.damage else [])))
    return (
        f"{_rendition(event)} is there: {event.width}×{event.height}, {event.codecs}, {megabytes(event.size)}, "
        f"made in {event.seconds:.1f} s ({event.reason}){more}"
    )


@_worded.register
def _(event: events.EnhancementCompleted) -> str:
    return f"Enhanced with the preset {event.preset}: {counted(len(event.renditions), 'rendition')}"


@_worded.register
def _(event: events.EnhancementFailed) -> str:
    return f"Cannot be enhanced with the preset {event.preset}: {event.reason}"


@_worded.register
def _(event: events.PreviewsMade) -> str:
    sheet = f", {counted(event.tiles, 'small picture')} for scrubbing" if event.sprite is not None else ""
    return f"Pictures made: a poster of {event.width}×{event.height} from {event.at:.1f} s{sheet}"


@_worded.register
def _(event: events.PreviewsFailed) -> str:
    return f"No picture can be had of it: {event.reason}"


@_worded.register
def _(event: events.GrowthStarted) -> str:
    return f"Copy to {event.store} began while {escape_path(event.relative)} is still being written"


@_worded.register
def _(event: events.GrowthEnded) -> str:
    return f"No longer written: {megabytes(event.size)}"


@_worded.register
def _(event: events.GrowthAbandoned) -> str:
    return f"What was copied while it was being written was given up and removed: {event.reason}"


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


@_worded.register
def _(event: events.DiskSpaceLow) -> str:
    what = "uploads are refused and watching pauses" if event.mark == "hard" else "make room soon"
    return (
        f"Disk space low: {gigabytes(event.free)} free at {escape_path(event.path)}, "
        f"less than {gigabytes(event.limit)}: {what}"
    )


@_worded.register
def _(event: events.DiskSpaceRecovered) -> str:
    return f"Disk space is enough again: {gigabytes(event.free)} free at {escape_path(event.path)}"


_PLACES: dict[str, str] = {"s3": "in the object store", "drive": "in Google Drive"}


def _rendition(event: events.EnhancementStarted | events.RenditionStored) -> str:
    kind = f"The rung of {event.height} lines" if event.kind == "hls" else "The rendition"
    return f"{kind} by the preset {event.preset}"


def _short(stream_id: str) -> str:
    return f"{stream_id[:12]}…"


def _through(event: events.ChunkUploaded) -> str:
    return f"to {megabytes(event.offset + event.size)}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
