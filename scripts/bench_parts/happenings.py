"""Plausible events in any number."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from streams.entries import NewEvent, new_event
from streams.events import VideoStored
from streams.paths import OsPath

_SPACE = uuid.UUID("3f0a5f8e-5d5a-4b3f-9d5c-1a2b3c4d5e6f")
_AT = datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)


def stored_videos(count: int, first: int = 0) -> list[NewEvent]:
    """As many uploads, each of a video of its own."""
    return [_stored(number) for number in range(first, first + count)]


def _stored(number: int) -> NewEvent:
    name = f"20250102_030405_Tutorial_lesson {number}.mp4"
    event = VideoStored(
        door="upload",
        path=OsPath(f"/srv/spoolhouse/uploaded_videos/{name}"),
        stored_name=name,
        filename=name[16:],
        original_name=f"lesson {number}.mp4",
        label="Tutorial",
        mime="video/mp4",
        size=15_000_000 + number,
        sha256=uuid.uuid5(_SPACE, f"{number}").hex * 2,
        received_at=_AT,
        modified_at=_AT,
        duration_receiving=1.234,
    )
    return new_event(str(uuid.uuid5(_SPACE, f"video/{number}")), event, source="upload")
