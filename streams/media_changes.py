"""Which events change how work on a video stands, and to what: for whoever keeps it, and whoever tells of it live.

`changes` looks at one event alone. Whether the event is of the content that the video has now is for the
caller to say, who knows the video (`revision_of`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from streams.events import (
    AttemptFailed,
    EnhancementCompleted,
    EnhancementFailed,
    EnhancementRequested,
    EnhancementStarted,
    EntryParked,
    Event,
    FileMoved,
    FileReturned,
    FileSettled,
    PreviewsFailed,
    PreviewsMade,
    VideoProbed,
    VideoProbeFailed,
    VideoStored,
)
from streams.media import Status, Task
from streams.paths import escape_path

GROUPS: Mapping[str, Task] = {"enhance": "video-enhancement", "probe": "metadata-extraction", "previews": "previews"}
"""Processors whose failures are those of a task."""

MAX_MESSAGE = 1000
"""Characters."""

MAX_ERROR = 4000
"""Characters."""

MAX_NAME = 1024
"""Characters of a video's name."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a task stands after an event."""

    task: Task
    status: Status
    message: str
    """For people."""
    error: str | None = None
    """Why it failed, or why it is tried again."""


def changes(event: Event, *, previews: bool) -> tuple[Change, ...]:
    """What an event changes; `previews`: pictures are made of every video."""
    if begins(event):
        return _begun(event, previews=previews)
    word = _WORDS.get(type(event))
    change = None if word is None else word(event)
    return () if change is None else (change,)


def begins(event: Event) -> bool:
    """Whether it brings new content that is worked on: nothing that was known of the former holds."""
    # What was made of another video is no video that people follow.
    return isinstance(event, FileSettled) or (isinstance(event, VideoStored) and event.door != "rendition")


def revision_of(event: Event) -> int | None:
    """The content that an event tells of; None: whichever the video has."""
    revision: int | None = getattr(event, "revision", None)
    return revision


def name_in(event: Event) -> str | None:
    """What the video is called from now on, for people; None where the event does not say."""
    if isinstance(event, VideoStored):
        name = event.original_name if event.door in {"upload", "download"} else ""
        return (name or escape_path(event.filename))[:MAX_NAME]
    if isinstance(event, FileSettled | FileMoved | FileReturned):
        return os.path.basename(escape_path(event.relative))[:MAX_NAME]
    return None


def is_sound(event: Event) -> bool:
    """Whether it brings sound alone (a download of just that): there is no picture to work on."""
    return isinstance(event, VideoStored) and event.door == "download" and event.mime.startswith("audio/")


def _begun(event: Event, *, previews: bool) -> tuple[Change, ...]:
    if is_sound(event):
        return ()
    begun = [Change("metadata-extraction", "queued", "waits to be read")]
    if isinstance(event, VideoStored) and event.enhance:
        begun.insert(0, Change("video-enhancement", "queued", "waits to be enhanced"))
    if previews:
        begun.append(Change("previews", "queued", "waits for its pictures"))
    return tuple(begun)


def _requested(event: EnhancementRequested) -> Change:
    preset = f" with the preset {event.preset}" if event.preset else ""
    return Change("video-enhancement", "queued", f"waits to be enhanced{preset}"[:MAX_MESSAGE])


def _started(event: EnhancementStarted) -> Change:
    how = "taken as it is, into another container" if event.action == "remux" else f"encoded with {event.encoder}"
    what = f"{event.height} lines for streaming: " if event.kind == "hls" else ""
    return Change("video-enhancement", "processing", f"{what}{how}: {event.reason}"[:MAX_MESSAGE])


def _completed(event: EnhancementCompleted) -> Change:
    count = len(event.renditions)
    made = "1 rendition is" if count == 1 else f"{count} renditions are"
    return Change("video-enhancement", "completed", f"{made} there")


def _failed(event: EnhancementFailed) -> Change:
    return _gone_wrong("video-enhancement", "it cannot be enhanced", event.reason)


def _probed(event: VideoProbed) -> Change:
    length = "unknown length" if event.duration is None else f"{event.duration:.1f} s"
    sound = event.audio_codec or "no sound"
    damaged = f"; damaged: {event.damaged}" if event.damaged else ""
    message = f"{length}, {event.width}×{event.height}, {event.video_codec}, {sound}{damaged}"
    return Change("metadata-extraction", "completed", message[:MAX_MESSAGE])


def _probe_failed(event: VideoProbeFailed) -> Change:
    return _gone_wrong("metadata-extraction", "it cannot be read as a video", event.reason)


def _previews_made(event: PreviewsMade) -> Change:
    sheet = f", {event.tiles} small pictures" if event.sprite is not None else ""
    return Change("previews", "completed", f"a poster of {event.width}×{event.height}{sheet}")


def _previews_failed(event: PreviewsFailed) -> Change:
    return _gone_wrong("previews", "no picture can be had of it", event.reason)


def _attempt_failed(event: AttemptFailed) -> Change | None:
    task = GROUPS.get(event.group)
    if task is None:
        return None
    # A time of day in the zone of whoever folds it would differ from one process to the next.
    at = event.retry_at.astimezone(UTC).strftime("%H:%M:%S")
    message = f"attempt {event.attempt} failed, it will be tried again at {at} UTC"
    return Change(task, "queued", message, event.reason[:MAX_ERROR])


def _parked(event: EntryParked) -> Change | None:
    task = GROUPS.get(event.group)
    if task is None:
        return None
    message = f"given up after {event.attempts} attempts: `spoolhouse parked` shows it, and tries it again"
    return Change(task, "failed", message, event.reason[:MAX_ERROR])


def _gone_wrong(task: Task, message: str, reason: str) -> Change:
    return Change(task, "failed", message, reason[:MAX_ERROR])


_WORDS: dict[type[Any], Callable[[Any], Change | None]] = {
    EnhancementRequested: _requested,
    EnhancementStarted: _started,
    EnhancementCompleted: _completed,
    EnhancementFailed: _failed,
    VideoProbed: _probed,
    VideoProbeFailed: _probe_failed,
    PreviewsMade: _previews_made,
    PreviewsFailed: _previews_failed,
    AttemptFailed: _attempt_failed,
    EntryParked: _parked,
}

RELEVANT: frozenset[type[Any]] = frozenset({VideoStored, FileSettled, FileMoved, FileReturned, *_WORDS})
"""Every type of event that changes how work stands, or what the video is called."""
