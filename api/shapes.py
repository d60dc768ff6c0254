"""The JSON that the API answers with, as types: handlers build it, and the document describes it, from these."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

S = TypeVar("S", bound=type)

VideoDoor = Literal["upload", "watch", "download", "rendition"]


def shape(cls: S) -> S:
    """A type whose fields are described by the docstrings below them."""
    return with_config(ConfigDict(use_attribute_docstrings=True))(cls)


@shape
class Refusal(TypedDict):
    """The one shape of all errors."""

    success: Literal[False]
    error: str
    """What is wrong and what to do next, for people."""
    request_id: NotRequired[str]
    """What to look for in the log, where the fault is ours."""


# ---------------------------------------------------------------- uploads and their lists


@shape
class VideoForm(TypedDict):
    """The form of an upload."""

    video: bytes
    """The file, with its name."""
    contentType: NotRequired[str]
    """A word that becomes part of the stored name, e.g. `Tutorial`."""


@shape
class Uploaded(TypedDict):
    """A video that was taken in."""

    success: Literal[True]
    video_id: str
    """Its id in Google Drive; without Drive, or before its copy is there, our own."""
    drive_link: str | None
    filename: str
    """The stored name without its timestamp: what it is called in Drive and in the log."""
    local_backup: str
    """Path of the stored file."""
    file_size_mb: float
    id: str
    """Our own id: what every other route knows it by."""
    status_url: NotRequired[str]
    """Where to ask later, while the copy in Drive is still to come."""


@shape
class DriveRefusal(TypedDict):
    """The video is safe here, and its copy in Drive failed."""

    success: Literal[False]
    error: str
    """`Failed to upload to Drive: …`"""
    local_backup: str
    message: str
    id: str
    status_url: str


@shape
class StoredFile(TypedDict):
    """A file that lies there."""

    filename: str
    """The stored name; of a watched file its path below the watched root."""
    size_bytes: int
    size_mb: float
    created: str | None
    """Local time, `2024-11-12T14:30:52`."""
    modified: str | None
    duplicate_of: NotRequired[str]
    """The id of the oldest video of equal content, where this is not the first."""


@shape
class StoredFiles(TypedDict):
    """A list of files."""

    success: Literal[True]
    videos: list[StoredFile]
    count: int
    total_size_mb: float
    next: NotRequired[str | None]
    """Hand it in as `cursor` for what follows; null: that was all. Only where `limit` or `cursor` was given."""


@shape
class StorageStats(TypedDict):
    """How many files, and how much."""

    success: Literal[True]
    video_count: int
    total_size_bytes: int
    total_size_mb: float
    total_size_gb: float
    storage_path: str


@shape
class OneFile(StoredFile):
    """One file by its name."""

    success: Literal[True]
    id: str


# ---------------------------------------------------------------- the catalogue


@shape
class ShownCopy(TypedDict):
    """A copy of a video elsewhere."""

    replica: Literal["s3", "drive"]
    revision: int
    """Of the content that it is a copy of."""
    state: str
    """`started`, `complete`, `failed`, `damaged`, `abandoned`; `outdated`: whole, of content that was replaced."""
    target: str | None
    """Stream id in the object store, or file id in Drive."""
    store: str | None
    link: str | None
    size: int | None
    """Bytes."""
    chunks: int | None
    progress: int
    """Percent."""
    started: str | None
    completed: str | None
    verified: str | None
    """When it was last found whole."""
    verified_deep: bool
    """Whether it was read back for that."""
    fault: str | None


@shape
class ShownVideo(TypedDict):
    """A video as the catalogue knows it."""

    id: str
    door: VideoDoor
    """How it came in."""
    state: str
    """`present`, `offloaded` (only its copies are left), `removed`, `adopted` (a row of an older system)."""
    present: bool
    filename: str
    stored_name: str | None
    path: str
    root: str | None
    """The watched folder that it lies in."""
    relative: str | None
    """Its path below that."""
    number: int | None
    """Its id in the table `videos`, for watched files."""
    size_bytes: int | None
    size_mb: float | None
    created: str | None
    modified: str | None
    duration: float | None
    """Seconds."""
    width: int | None
    """Pixels."""
    height: int | None
    video_codec: str | None
    audio_codec: str | None
    container: str | None
    """FFmpeg's name of the format."""
    frame_rate: float | None
    """Frames a second, on average."""
    bit_rate: int | None
    """Bits a second, over all streams."""
    mime: str | None
    label: str | None
    """`contentType` of the upload."""
    original_name: str | None
    sha256: str | None
    revision: int
    """How often its content was replaced, plus one."""
    adopted: bool
    damaged: str | None
    """What is wrong with the file."""
    probe_error: str | None
    """Why nothing is known of its content."""
    parked: str | None
    """What waits for a person, and why."""
    duplicate_of: str | None
    """The id of the oldest video of equal content."""
    title: str | None
    """As the file says it."""
    recorded: str | None
    """When it was recorded, as the file says it."""
    profile: str | None
    """Of the picture's codec: `High`."""
    pixel_format: str | None
    """FFmpeg's name: `yuv420p`."""
    rotation: int | None
    """Degrees by which players turn it clockwise."""
    hdr: bool | None
    """Whether it is in a high dynamic range; null where that is not known."""
    channels: int | None
    """Of sound."""
    poster: bool
    """Whether `GET /api/videos/{id}/poster` has a picture."""
    playable: str | None
    """The id of the rendition that `GET /processed_videos/{id}` streams; null where there is none."""
    rendition_of: str | None
    """The id of the video that it was made of, where it is a rendition."""
    replicas: list[ShownCopy]


@shape
class OneVideo(ShownVideo):
    """All that is known of one video."""

    success: Literal[True]


@shape
class Videos(TypedDict):
    """A page of the catalogue."""

    success: Literal[True]
    videos: list[ShownVideo]
    count: int
    next: str | None
    """Hand it in as `cursor` for what follows; null: that was all."""


@shape
class Happening(TypedDict):
    """Something that happened to a video: an event, or a run of equal ones (chunks)."""

    ver: int
    """The video's version that it made: 1, 2, 3 …"""
    last_ver: int
    """That of the last event of a run."""
    events: int
    time: str | None
    last_time: str | None
    type: str
    """The event's name."""
    what: str
    """In words, for people."""
    source: str
    id: str
    cause: str | None
    """The id of the event that it followed from."""
    place: str
    """Partition and position in the log."""
    data: dict[str, Any]
    """The event's fields, for programs; of a run those of its newest event."""


@shape
class History(TypedDict):
    """What happened to one video, in order."""

    success: Literal[True]
    id: str
    events: list[Happening]
    count: int


@shape
class DriveRetried(TypedDict):
    """What came of asking for another try with Drive."""

    success: Literal[True]
    id: str
    state: Literal["complete", "replayed", "hastened", "requested"]
    video_id: str | None
    """Its id in Drive where it is there; else our own."""
    drive_link: str | None
    message: str
    status_url: str


# ---------------------------------------------------------------- operation


@shape
class Alive(TypedDict):
    """The process lives."""

    alive: Literal[True]
    pid: int


# ---------------------------------------------------------------- renditions


@shape
class EnhancementAsked(TypedDict):
    """A request for renditions is in the queue."""

    success: Literal[True]
    id: str
    preset: str
    hls: bool
    """Whether a ladder is made, too."""
    message: str
    status_url: str
    """Tells what becomes of it."""
