"""The JSON of the media routes, as types: see `api/shapes.py`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from api.shapes import shape
from streams.media import Task

ShownStatus = Literal["none", "queued", "processing", "completed", "failed"]
"""`none`: nobody asked for it."""


@shape
class FileForm(TypedDict):
    """The form of an upload that is to be enhanced."""

    file: bytes
    """The video, with its name."""
    client_id: NotRequired[str]
    """Whoever opens `/ws/{client_id}` hears of it: up to 128 characters."""


@shape
class FileTaken(TypedDict):
    """A video that was taken in."""

    file_id: str
    """What every other route knows it by."""
    filename: str
    """As the sender calls it."""
    status: Literal["uploaded"]
    client_id: str | None


@shape
class TaskStatus(TypedDict):
    """How a piece of work on a video stands."""

    file_id: str
    filename: str
    task: Task
    status: ShownStatus
    """`none`: nobody asked for it."""
    progress: float
    """Percent."""
    message: str
    """For people."""
    error: str | None
    """Why it failed."""
    time: str | None
    """Since when it stands so, ISO 8601 with the zone."""
    result: str | None
    """Where what came of it can be had."""


@shape
class NotPlayable(TypedDict):
    """There is nothing to show (yet): how it stands, and what to do."""

    success: Literal[False]
    error: str
    file_id: str
    status: Literal["none", "queued", "processing", "completed", "failed", "offloaded", "missing"]
    """That of the work; `offloaded`, `missing`: it was done, and its file is not here."""
    progress: float
    """Percent."""
    message: str
    task: NotRequired[Task]
    rendition: NotRequired[str]
    """The id of the one that is not here."""


@shape
class Metadata(TypedDict):
    """All that is known of a video's insides. Names of numbers end in their unit."""

    file_id: str
    filename: str
    revision: int
    """Of the content that this was read from."""
    format: NotRequired[dict[str, Any]]
    """The container."""
    streams: NotRequired[list[dict[str, Any]]]
    """Picture, sound, subtitles and data, in the file's order."""
    chapters: NotRequired[list[dict[str, Any]]]
