"""Plausible histories of the work on videos: what probe, enhancement and previews append."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from streams.events import (
    AttemptFailed,
    EnhancementCompleted,
    EnhancementFailed,
    EnhancementRequested,
    EnhancementStarted,
    EntryParked,
    Event,
    PreviewsFailed,
    PreviewsMade,
    RenditionStored,
    VideoProbed,
    VideoProbeFailed,
)
from streams.identity import rendition_id
from streams.paths import OsPath

Say = Callable[[str, Event, str], Awaitable[object]]

DOCUMENT = {"format": {"name": "mov,mp4", "duration": 12.5}, "streams": [{"codec": "h264", "title": "naïve 日本"}]}


def requested(request: int = 1, **changes: Any) -> EnhancementRequested:
    """Someone asks."""
    return EnhancementRequested(**{"revision": 1, "request": request, "preset": "web", "hls": False, **changes})


def started(**changes: Any) -> EnhancementStarted:
    """It begins."""
    fields: dict[str, Any] = {
        "revision": 1,
        "preset": "web",
        "kind": "progressive",
        "height": 720,
        "action": "encode",
        "reason": "mpeg4 in avi does not play in browsers",
        "encoder": "libx264",
    }
    return EnhancementStarted(**{**fields, **changes})


def rendition(video: str, name: str = "web", **changes: Any) -> RenditionStored:
    """One rendition is there."""
    revision = int(changes.get("revision", 1))
    fields: dict[str, Any] = {
        "revision": revision,
        "rendition": rendition_id(video, revision, name),
        "preset": name,
        "kind": "progressive",
        "action": "encode",
        "reason": "mpeg4 in avi does not play in browsers",
        "path": OsPath(f"/data/processed_videos/bad\udcff\\{name}.mp4"),
        "playlist": None,
        "mime": "video/mp4",
        "size": 123_456,
        "sha256": "e" * 64,
        "container": "mp4",
        "duration": 12.5,
        "width": 1280,
        "height": 720,
        "video_codec": "h264",
        "audio_codec": "aac",
        "codecs": "avc1.64001f,mp4a.40.2",
        "bit_rate": 2_000_000,
        "frames": 300,
        "damage": None,
        "warnings": (),
        "source_sha256": "",
        "parameters": {"crf": 21},
        "tools": {"ffmpeg": "8.1"},
        "seconds": 3.5,
    }
    return RenditionStored(**{**fields, **changes})


def completed(*renditions: str, **changes: Any) -> EnhancementCompleted:
    """All of it is there."""
    return EnhancementCompleted(**{"revision": 1, "preset": "web", "renditions": renditions, **changes})


def failed(reason: str = "no picture decodes", **changes: Any) -> EnhancementFailed:
    """Nothing can be made of it."""
    return EnhancementFailed(**{"revision": 1, "preset": "web", "reason": reason, **changes})


def probed(**changes: Any) -> VideoProbed:
    """It was read."""
    fields: dict[str, Any] = {
        "revision": 1,
        "container": "mov,mp4",
        "duration": 12.5,
        "width": 1920,
        "height": 1080,
        "video_codec": "h264",
        "audio_codec": "aac",
        "frame_rate": 25.0,
        "bit_rate": 5_000_000,
        "size": 1,
        "metadata": DOCUMENT,
    }
    return VideoProbed(**{**fields, **changes})


def previews(**changes: Any) -> PreviewsMade:
    """Pictures are there."""
    fields: dict[str, Any] = {
        "revision": 1,
        "poster": OsPath("/data/previews/bad\udcff/poster.jpg"),
        "poster_webp": OsPath("/data/previews/bad\udcff/poster.webp"),
        "at": 1.5,
        "width": 640,
        "height": 360,
        "sprite": OsPath("/data/previews/x/sprite.jpg"),
        "thumbnails": OsPath("/data/previews/x/thumbnails.vtt"),
        "tiles": 12,
    }
    return PreviewsMade(**{**fields, **changes})


def attempt_failed(group: str, attempt: int = 1, position: int = 1) -> AttemptFailed:
    """It is tried again."""
    at = datetime(2024, 11, 12, 14, 30, 52, tzinfo=UTC)
    return AttemptFailed(group=group, position=position, attempt=attempt, reason="the child was killed", retry_at=at)


def parked(group: str, position: int = 1) -> EntryParked:
    """It is not tried again."""
    return EntryParked(group=group, position=position, attempts=5, reason="out of memory")


class Enhancing:
    """Appends what may happen next in the work on a video."""

    def __init__(self, say: Say, rng: random.Random) -> None:
        self._say, self.rng = say, rng
        self._requests = 0

    async def anything(self, video: str, revision: int) -> None:
        """One random thing."""
        self._requests += 1
        name = self.rng.choice(["web", "small", "hls_720"])
        group, position = self.rng.choice(["enhance", "probe", "previews", "drive"]), self.rng.randrange(10**9)
        made = rendition(video, name, revision=revision, sha256=f"{self.rng.randrange(4):064x}")
        event = self.rng.choice(
            [
                requested(self._requests, revision=revision),
                started(revision=revision, preset=name),
                made,
                completed(made.rendition, revision=revision),
                failed(revision=revision),
                probed(revision=revision),
                VideoProbeFailed(revision=revision, reason="moov atom not found"),
                previews(revision=revision),
                PreviewsFailed(revision=revision, reason="no picture"),
                attempt_failed(group, position=position),
                parked(group, position=position),
            ]
        )
        await self._say(video, event, group)
