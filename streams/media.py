"""What is known of the work on a video, in the words that the API, the command line and processors share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from streams.events import Action, RenditionKind
from streams.paths import OsPath

Task = Literal["video-enhancement", "metadata-extraction", "previews"]
"""Work that people watch. The names are a contract."""

TASKS: tuple[Task, ...] = ("video-enhancement", "metadata-extraction", "previews")

Status = Literal["queued", "processing", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class TaskState:
    """How one task on one video stands."""

    task: Task
    status: Status
    message: str
    """For people."""
    error: str | None
    """Why it failed."""
    at: datetime
    """When it came to stand so (aware)."""
    ver: int
    """Of the video's subject: the event that brought it there."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """A rendition as it was stored; see `streams.events.RenditionStored`."""

    id: str
    revision: int
    preset: str
    kind: RenditionKind
    action: Action
    path: OsPath
    playlist: OsPath | None
    mime: str
    size: int
    sha256: str
    duration: float | None
    width: int
    height: int
    codecs: str
    bit_rate: int
    stored: datetime
    """Aware."""


@dataclass(frozen=True, slots=True)
class PreviewFiles:
    """Where the poster and the sheet of small pictures lie."""

    revision: int
    poster: OsPath
    poster_webp: OsPath
    sprite: OsPath | None
    thumbnails: OsPath | None
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class MediaOf:
    """All of that, of one video."""

    video: str
    revision: int
    filename: str
    """For people: what is not UTF-8 in it is escaped."""
    client_id: str | None
    tasks: Mapping[str, TaskState]
    """By name; a task that nobody asked for is not there."""
    renditions: tuple[Rendition, ...]
    """Of the current revision, newest first."""
    previews: PreviewFiles | None
    metadata: Mapping[str, Any] | None
    """The document that `GET /metadata/<id>.json` shows."""

    def playable(self) -> Rendition | None:
        """The newest rendition that is one file."""
        return next((one for one in self.renditions if one.kind == "progressive"), None)

    def ladder(self) -> tuple[Rendition, ...]:
        """The rungs of the newest ladder, the largest first."""
        rungs: dict[int, Rendition] = {}
        of_one = [one for one in self.renditions if one.kind == "hls"]
        for one in of_one:
            if one.preset == of_one[0].preset:
                rungs.setdefault(one.height, one)
        return tuple(rungs[height] for height in sorted(rungs, reverse=True))


def metadata_document(video: str, filename: str, revision: int, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `<video id>.json` holds, on disk and as the API shows it."""
    return {"file_id": video, "filename": filename, "revision": revision, **metadata}
