"""Everything that can happen, as small frozen dataclasses. This is the one place to add an event.

Events are permanent: a field is never renamed or removed and never changes its meaning. To change
one, raise the version in its decorator and add a pure upcaster (`@upcaster`) that turns the stored
data of the older version into the newer. `tests/streams/golden/` keeps one stored form of every
version for ever.

Sizes are bytes, times are aware datetimes in UTC unless a field says otherwise, durations are
seconds. Paths are `OsPath`: the codec escapes what is not UTF-8.

`step()` is the part of an event's id that tells it from its sisters: two events of one type that
one cause may write about one subject must differ in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, dataclass_transform

from streams.paths import OsPath

Door = Literal["upload", "watch", "download", "rendition"]
"""How a video came in; `rendition`: it was made here, of another one."""


class Event:
    """What all events share."""

    __slots__ = ()
    sv: ClassVar[int] = 1
    private: ClassVar[frozenset[str]] = frozenset()
    """Fields that whoever reads them could misuse: kept in the log, shown to no one."""

    def step(self) -> str:
        """Tells this event's id from others of its type with the same subject and cause."""
        return type(self).__name__

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:  # noqa: ARG002 # most have none
        """Fields that are set on the subject's hash in the same step, for a person at redis-cli."""
        return None


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

EVENTS: dict[str, type[Event]] = {}
"""Every event type by its name in the log."""

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, version) → the function that turns its stored data into that of version + 1."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(*, sv: int = 1) -> Callable[[type[Event]], Any]:
    """Make a class an event: a frozen dataclass, registered under its own name."""

    def define(cls: type[Event]) -> type[Event]:
        made: type[Event] = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        if made.__name__ in EVENTS:
            raise TypeError(f"there is an event {made.__name__} already")
        made.sv = sv
        EVENTS[made.__name__] = made
        return made

    return define


def upcaster(name: str, sv: int) -> Callable[[Upcaster], Upcaster]:
    """Register a pure function from the stored data of version `sv` to that of `sv + 1`."""

    def register(function: Upcaster) -> Upcaster:
        UPCASTERS[name, sv] = function
        return function

    return register


# ---------------------------------------------------------------- a video's subject: <uuid>


@event()
class VideoStored(Event):
    """The bytes of an upload or a download lie whole and fsynced in a folder of ours."""

    door: Door
    path: OsPath
    """Absolute path of the stored file."""
    stored_name: str
    """Its file name: `20241112_143052_Tutorial_video.mp4`."""
    filename: str
    """The stored name without its timestamp: `Tutorial_video.mp4`."""
    original_name: str
    """What the sender called it, made printable."""
    label: str
    """The sender's `contentType` text, or empty."""
    mime: str
    """The media type that the sender or the bytes claimed, e.g. `video/mp4`."""
    size: int
    sha256: str
    """Hex digest of the whole content, read back from disk."""
    received_at: datetime
    modified_at: datetime
    duration_receiving: float = 0.0
    """From the first byte to the durable file."""
    damaged: str | None = None
    """Why the video looks damaged, where it does; it is kept all the same."""
    adopted: bool = False
    """It lay in the folder before Spoolhouse did."""
    client_id: str | None = None
    """Who wants to hear of it (`POST /upload`)."""
    revision: int = 1
    enhance: bool = False
    """Its sender asked for a rendition that every browser plays (`POST /upload`)."""
    rendition_of: str | None = None
    """The video that it was made of, where it is a rendition."""


@event()
class FileSettled(Event):
    """A watched file is complete: no one writes to it. Nothing was copied; no byte was read."""

    root: OsPath
    """The watched root, absolute."""
    relative: OsPath
    """Path below the root."""
    number: int
    """Its row in the legacy `videos` table, handed out by the registry for ever."""
    revision: int
    """1 for the first content at this path, one more each time the content is replaced."""
    size: int
    modified_ns: int
    """mtime, nanoseconds since the epoch."""
    device: int
    inode: int
    generation: int = 0
    """How often a file at this path was removed before this one came."""
    settled_by: Literal["lease", "stillness", "scan"] = "lease"
    """How it was known to be complete."""

    def step(self) -> str:
        """A revision settles once."""
        return f"FileSettled/{self.revision}"


@event()
class FileMoved(Event):
    """A watched file was moved or renamed inside its root; its content is what it was."""

    root: OsPath
    relative: OsPath
    """Its new path below the root."""
    former: OsPath
    """Its path before."""
    move: int
    """The how-manieth move of this video it is, from 1."""
    size: int
    modified_ns: int
    device: int
    inode: int

    def step(self) -> str:
        """Each move has a number."""
        return f"FileMoved/{self.move}"


@event()
class FileRemoved(Event):
    """A watched file is gone from its root (and the root itself is there)."""

    root: OsPath
    relative: OsPath
    removal: int = 1
    """The how-manieth removal of this video it is, from 1 (a file may come back)."""

    def step(self) -> str:
        """Each removal has a number."""
        return f"FileRemoved/{self.removal}"


@event()
class FileReturned(Event):
    """The very file that was removed is back (same inode, size and mtime)."""

    root: OsPath
    relative: OsPath
    removal: int
    """The removal that this undoes."""
    size: int
    modified_ns: int
    device: int
    inode: int

    def step(self) -> str:
        """It undoes one removal."""
        return f"FileReturned/{self.removal}"


@event()
class RowAdopted(Event):
    """A row of the legacy `videos` table was there before Spoolhouse; it keeps its number."""

    number: int
    main_dir: str | None
    path: str
    """`des_video_path` as it stands in the row."""
    url: str | None
    status: int | None
    created: str | None
    """`created_date` as it stands in the row (local time, `YYYY-MM-DD HH:MM:SS`)."""


@event()
class VideoProbed(Event):
    """The container and its streams were read."""

    revision: int
    container: str
    """FFmpeg's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration: float | None
    """Seconds; None where the container does not say."""
    width: int
    """Pixels."""
    height: int
    video_codec: str
    audio_codec: str | None
    frame_rate: float | None
    """Frames a second, average."""
    bit_rate: int | None
    """Bits a second, over all streams."""
    size: int
    damaged: str | None = None
    """What is wrong with it all the same, e.g. that its end is missing."""
    metadata: Mapping[str, Any] | None = None
    """Everything else that the container and its streams say: the document of `processors.media.metadata`."""

    def step(self) -> str:
        """A revision is probed once."""
        return f"VideoProbed/{self.revision}"


@event()
class VideoProbeFailed(Event):
    """The file could not be read as a video; it is kept all the same."""

    revision: int
    reason: str

    def step(self) -> str:
        """Once for each revision."""
        return f"VideoProbeFailed/{self.revision}"


@event()
class AttemptFailed(Event):
    """A processor failed at an event and will try again."""

    group: str
    position: int
    """Of the entry that failed, in this subject's partition."""
    attempt: int
    """1 for the first."""
    reason: str
    retry_at: datetime

    def step(self) -> str:
        """One for each attempt."""
        return f"AttemptFailed/{self.group}/{self.position}/{self.attempt}"


@event()
class EntryParked(Event):
    """A processor gave up on an event until a person says `replay` or `discard`."""

    group: str
    position: int
    attempts: int
    reason: str
    parking: int = 1
    """1 for the first time this entry is parked, one more after each replay."""

    def step(self) -> str:
        """One for each time it is parked."""
        return f"EntryParked/{self.group}/{self.position}/{self.parking}"


# ---------------------------------------------------------------- its copies

Replica = Literal["s3", "drive"]
"""Where a copy lies: the object store (S3, or a directory that stands for it), or Google Drive."""


@event()
class ReplicationStarted(Event):
    """A revision of a video begins to be copied to the object store, chunk by chunk."""

    revision: int
    stream_id: str
    """64 hex digits; first part of the key of everything that is stored of this revision."""
    store: str
    """Which store, as a person reads it: `s3://videos at http://127.0.0.1:9000`."""
    chunk_size: int
    """A stream keeps the chunk size it began with."""
    size: int

    def step(self) -> str:
        """A stream starts once for each cause."""
        return f"ReplicationStarted/{self.stream_id}"


@event()
class ChunkUploaded(Event):
    """The object store has a chunk, and said so.

    Stands under the video, or under `growth:<video>` while the file is still being written.
    """

    revision: int
    stream_id: str
    index: int
    """Dense from 0; the object is `<stream_id>/chunk_<index, six digits>.bin`."""
    offset: int
    """Of its first byte in the file: index × the stream's chunk size."""
    size: int
    """chunk_size, but for the last."""
    sha256: str
    etag: str
    """As the store gave it, without quotes."""

    def step(self) -> str:
        """A chunk whose content changed is sent again under its index."""
        return f"ChunkUploaded/{self.stream_id}/{self.index}/{self.sha256[:16]}"

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:
        """What users of the chunk uploader look at: how far this stream is, and since when."""
        return {
            "stream_id": self.stream_id,
            "offset": str(self.offset + self.size),
            "last_modified": repr(at.timestamp()),
        }


@event()
class ReplicationCompleted(Event):
    """Every chunk of a revision and, last, its manifest are in the object store."""

    revision: int
    stream_id: str
    store: str
    size: int
    sha256: str
    """Of the whole content, as it was read for this copy."""
    chunk_size: int
    chunks: int
    manifest_sha256: str
    """Of the bytes of `<stream_id>/metadata.json`."""
    sent: int = 0
    """Bytes of chunks that the run which completed it sent."""
    seconds: float = 0.0
    """From the start of the run which completed it."""

    def step(self) -> str:
        """Once for each stream and manifest."""
        return f"ReplicationCompleted/{self.stream_id}/{self.manifest_sha256[:16]}"


@event()
class ReplicationAbandoned(Event):
    """A stream will not be completed: its content is no longer there. Its objects were removed."""

    revision: int
    stream_id: str
    reason: str

    def step(self) -> str:
        """Once for each stream and cause."""
        return f"ReplicationAbandoned/{self.stream_id}"


@event()
class ReplicationRequested(Event):
    """Someone asked for (what is missing of) the copy in the object store."""

    revision: int
    request: int
    """The how-manieth request for this video it is, from 1."""
    reason: str = ""

    def step(self) -> str:
        """Each request has a number."""
        return f"ReplicationRequested/{self.request}"


@event()
class DriveUploadStarted(Event):
    """A revision of a video begins to be copied to Google Drive, under an id that Drive gave beforehand."""

    revision: int
    file_id: str
    folder_id: str
    filename: str
    """Its name in Drive: the stored name without its timestamp."""
    path: OsPath
    door: Door
    size: int

    def step(self) -> str:
        """Once for each Drive file."""
        return f"DriveUploadStarted/{self.file_id}"


@event()
class DriveSessionOpened(Event):
    """Drive opened a resumable upload session for the file."""

    private: ClassVar[frozenset[str]] = frozenset({"uri"})

    revision: int
    file_id: str
    session: int
    """The how-manieth session of this file it is, from 1: a session lives a week at most."""
    uri: str
    """Whoever has it may upload: never shown."""

    def step(self) -> str:
        """Each session has a number."""
        return f"DriveSessionOpened/{self.file_id}/{self.session}"


@event()
class DriveOffsetReached(Event):
    """Drive has the file's first bytes and said so."""

    revision: int
    file_id: str
    session: int
    offset: int
    """Bytes that Drive has."""
    size: int
    """Bytes of the whole file."""

    def step(self) -> str:
        """Once for each offset of a session."""
        return f"DriveOffsetReached/{self.file_id}/{self.session}/{self.offset}"


@event()
class DriveFileUploaded(Event):
    """Drive has the whole file; size and MD5 are those of the local one."""

    revision: int
    file_id: str
    filename: str
    door: Door
    size: int
    md5: str
    seconds: float = 0.0

    def step(self) -> str:
        """Once for each Drive file."""
        return f"DriveFileUploaded/{self.file_id}"


@event()
class DrivePermissionsSet(Event):
    """The Drive file may be seen by whom the settings name."""

    revision: int
    file_id: str
    filename: str
    door: Door
    shared_with: str
    """`anyone` (who has the link), or a domain."""

    def step(self) -> str:
        """Once for each Drive file and audience."""
        return f"DrivePermissionsSet/{self.file_id}/{self.shared_with}"


@event()
class DriveUploadCompleted(Event):
    """The copy in Google Drive is whole, verified and shared as the settings say."""

    revision: int
    file_id: str
    filename: str
    path: OsPath
    """Of the local file."""
    door: Door
    link: str
    size: int
    md5: str

    def step(self) -> str:
        """Once for each Drive file."""
        return f"DriveUploadCompleted/{self.file_id}"


@event()
class DriveUploadFailed(Event):
    """The copy to Google Drive failed. Once for each episode: it is tried again by itself, silently."""

    revision: int
    filename: str
    path: OsPath
    door: Door
    episode: int
    """The how-manieth episode of failures for this video it is, from 1; a completed upload ends one."""
    reason: str
    begun: bool = True
    """Whether a file in Drive was begun before: else it failed at the very first step."""

    def step(self) -> str:
        """Each episode has a number."""
        return f"DriveUploadFailed/{self.revision}/{self.episode}"


@event()
class DriveUploadRequested(Event):
    """Someone asked for the copy in Google Drive (again)."""

    revision: int
    request: int
    """The how-manieth request for this video it is, from 1."""
    reason: str = ""

    def step(self) -> str:
        """Each request has a number."""
        return f"DriveUploadRequested/{self.request}"


@event()
class ReplicaVerified(Event):
    """A copy was compared with what was sent, and is whole."""

    replica: Replica
    revision: int
    target: str
    """The stream id, or the Drive file's id."""
    verification: int
    """The how-manieth verification of this video's copies it is, from 1."""
    deep: bool
    """The bytes themselves were read and hashed; else sizes and checksums that the store keeps."""
    objects: int
    size: int

    def step(self) -> str:
        """Each verification has a number."""
        return f"ReplicaVerified/{self.replica}/{self.verification}"


@event()
class ReplicaDamaged(Event):
    """A copy was compared with what was sent, and something is missing or wrong."""

    replica: Replica
    revision: int
    target: str
    verification: int
    deep: bool
    missing: int
    """Objects that are not there."""
    wrong: int
    """Objects whose size or checksum differs."""
    faults: tuple[str, ...]
    """The first of them, in words."""

    def step(self) -> str:
        """Each verification has a number."""
        return f"ReplicaDamaged/{self.replica}/{self.verification}"


@event()
class ReplicaRepaired(Event):
    """What was missing or wrong in a copy was sent again."""

    replica: Replica
    revision: int
    target: str
    verification: int
    """The verification that had found it."""
    source: Literal["local", "s3", "drive"]
    """Which whole copy it was sent from."""
    objects: int
    size: int
    """Bytes that were sent."""

    def step(self) -> str:
        """Once for each verification."""
        return f"ReplicaRepaired/{self.replica}/{self.verification}"


@event()
class VideoOffloaded(Event):
    """The local copy was given up on purpose: every configured copy had been verified just before."""

    revision: int
    path: OsPath
    size: int
    replicas: tuple[Replica, ...]
    offload: int
    """The how-manieth time it is offloaded, from 1."""

    def step(self) -> str:
        """Each offload has a number."""
        return f"VideoOffloaded/{self.offload}"


@event()
class VideoRestored(Event):
    """The local copy of an offloaded video is back at its place, verified."""

    revision: int
    path: OsPath
    size: int
    sha256: str
    replica: Replica
    """Which copy it came from."""
    offload: int
    """The offload that this undoes."""

    def step(self) -> str:
        """Once for each offload."""
        return f"VideoRestored/{self.offload}"


# ---------------------------------------------------------------- what is made of it

Action = Literal["remux", "encode"]
"""`remux`: the streams are taken as they are, into another container. `encode`: picture and sound are made anew."""

RenditionKind = Literal["progressive", "hls"]
"""`progressive`: one file that plays from its start. `hls`: one rung of a ladder, with a playlist beside it."""


@event()
class EnhancementRequested(Event):
    """Someone asked for renditions of a video."""

    revision: int
    request: int
    """The how-manieth request for this video it is, from 1."""
    preset: str
    """Its name in the settings; empty: the preset that the settings choose."""
    hls: bool
    """A ladder for adaptive streaming, too."""
    reason: str = ""

    def step(self) -> str:
        """Each request has a number."""
        return f"EnhancementRequested/{self.request}"


@event()
class EnhancementStarted(Event):
    """A rendition begins to be made. Told once for each rendition, and again by a run that goes another way."""

    revision: int
    preset: str
    kind: RenditionKind
    height: int
    """Pixels of the picture that is made."""
    action: Action
    reason: str
    """Why it is done this way: `already H.264 yuv420p and AAC`, `mpeg4 in avi does not play in browsers`."""
    encoder: str
    """Of the picture: `libx264`; `copy` where it is taken as it is."""

    def step(self) -> str:
        """Once for each way to make a rendition."""
        return f"EnhancementStarted/{self.revision}/{self.preset}/{self.kind}/{self.height}/{self.encoder}"


@event()
class RenditionStored(Event):
    """A rendition lies whole, checked and fsynced in a folder of ours. It is a video of its own: `rendition`."""

    revision: int
    """Of the content that it was made of."""
    rendition: str
    """The id under which the rendition itself has a history: its copies, its offloads."""
    preset: str
    kind: RenditionKind
    action: Action
    reason: str
    path: OsPath
    playlist: OsPath | None
    """Of an `hls` rung: its media playlist."""
    mime: str
    size: int
    sha256: str
    container: str
    duration: float | None
    """Seconds."""
    width: int
    """Pixels."""
    height: int
    video_codec: str
    audio_codec: str | None
    codecs: str
    """As RFC 6381 writes them, for playlists and players: `avc1.64001f,mp4a.40.2`."""
    bit_rate: int
    """Bits a second, the highest that a second of it takes (`hls`), else on average."""
    frames: int
    """Pictures in it."""
    damage: str | None
    """What of the source did not decode, where something did not."""
    warnings: tuple[str, ...]
    """What a person should know: HDR that was tone-mapped, encoders that were tried before."""
    source_sha256: str
    """Of the content that it was made of; empty where that was not known yet."""
    parameters: Mapping[str, Any]
    """Everything that it was made with."""
    tools: Mapping[str, str]
    """Name → version of what it was made by."""
    seconds: float
    """It took."""

    def step(self) -> str:
        """Once for each rendition and content."""
        return f"RenditionStored/{self.rendition}/{self.sha256[:16]}"


@event()
class EnhancementCompleted(Event):
    """All renditions that were wanted of a revision are there."""

    revision: int
    preset: str
    renditions: tuple[str, ...]
    """Their ids, the progressive one first."""

    def step(self) -> str:
        """Once for each preset and cause."""
        return f"EnhancementCompleted/{self.revision}/{self.preset}"


@event()
class EnhancementFailed(Event):
    """No rendition can be made of this content, and why. The video is kept as it is."""

    revision: int
    preset: str
    reason: str

    def step(self) -> str:
        """Once for each preset and cause."""
        return f"EnhancementFailed/{self.revision}/{self.preset}"


@event()
class PreviewsMade(Event):
    """A poster and a sheet of small pictures for scrubbing lie in a folder of ours; they can be made again."""

    revision: int
    poster: OsPath
    """JPEG."""
    poster_webp: OsPath
    at: float
    """Seconds into the video at which the poster's picture stands."""
    width: int
    """Pixels of the poster."""
    height: int
    sprite: OsPath | None
    """JPEG: the small pictures, in rows. None where the length is not known."""
    thumbnails: OsPath | None
    """WebVTT: which part of the sheet belongs to which time."""
    tiles: int
    """Small pictures on the sheet."""

    def step(self) -> str:
        """Once for each revision and cause."""
        return f"PreviewsMade/{self.revision}"


@event()
class PreviewsFailed(Event):
    """No picture could be had of this content, and why."""

    revision: int
    reason: str

    def step(self) -> str:
        """Once for each revision and cause."""
        return f"PreviewsFailed/{self.revision}"


# ---------------------------------------------------------------- a file that grows: growth:<video id>


@event()
class GrowthStarted(Event):
    """A file that is still being written begins to be copied, some way behind its writer."""

    video: str
    """The id that it will have once it settles."""
    root: OsPath
    relative: OsPath
    revision: int
    """The revision that it will be."""
    take: int
    """0 for the first; one more each time the file shrank or was replaced before it settled."""
    stream_id: str
    store: str
    chunk_size: int
    device: int
    inode: int

    def step(self) -> str:
        """Once for each stream."""
        return f"GrowthStarted/{self.stream_id}"

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:  # noqa: ARG002 # the same at any time
        """Whether something may have to be tidied up, should the file never be seen again."""
        return {"growing": "yes"}


@event()
class ChunkDispatched(Event):
    """A chunk of a file that still grows is about to be sent.

    Written down beforehand: whatever becomes of the request, and of who made it, what may arrive
    late is known by its hash.
    """

    stream_id: str
    index: int
    sha256: str
    again: bool
    """An earlier request with the same bytes had no known end: it may yet arrive."""

    def step(self) -> str:
        """Twice at the most for the same bytes: the first time, and all that followed."""
        return f"ChunkDispatched/{self.stream_id}/{self.index}/{self.sha256[:16]}/{int(self.again)}"

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:  # noqa: ARG002 # the same at any time
        """Whether something may have to be tidied up, should the file never be seen again."""
        return {"growing": "yes"}


@event()
class GrowthEnded(Event):
    """The file is complete: nothing more is sent of it while it grows, and its copy may be completed.

    Whoever was at it before finds the subject at another version, and stops.
    """

    stream_id: str
    size: int
    """Bytes of the complete file."""
    ending: int
    """The subject's version before: a file may be opened once more before it is registered."""

    def step(self) -> str:
        """Each ending has a number."""
        return f"GrowthEnded/{self.stream_id}/{self.ending}"

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:  # noqa: ARG002 # the same at any time
        """Whether something may have to be tidied up, should the file never be seen again."""
        return {"growing": "no"}


@event()
class GrowthAbandoned(Event):
    """The file shrank, was replaced or went away before it settled: what was sent of it is of no use, and is removed."""

    stream_id: str
    reason: str

    def step(self) -> str:
        """Once for each stream."""
        return f"GrowthAbandoned/{self.stream_id}"

    def checkpoint(self, at: datetime) -> Mapping[str, str] | None:  # noqa: ARG002 # the same at any time
        """What was sent of it is removed after this: whoever comes next looks whether it was."""
        return {"growing": "over"}


# ---------------------------------------------------------------- the registry: registry:videos


@event()
class NumbersReserved(Event):
    """Numbers up to `through` belong to rows that were there before; new ones start above.

    Always the registry's first event: a later event at version v hands out number
    `through + v - 1`.
    """

    through: int


@event()
class VideoNumbered(Event):
    """The number that goes with this event's version is this video's, for ever."""

    video: str

    def step(self) -> str:
        """A video is numbered once."""
        return f"VideoNumbered/{self.video}"


# ---------------------------------------------------------------- a download: download:<number>


@event()
class DownloadNumbered(Event):
    """On `registry:downloads`: the number that goes with this event's version belongs to this request, for ever."""

    key: str
    """The request's own id: a repeat of it gets the same number."""

    def step(self) -> str:
        """A request is numbered once."""
        return f"DownloadNumbered/{self.key}"


@event()
class DownloadRequested(Event):
    """Somebody wants what lies behind a URL. Always the first event of `download:<number>`."""

    number: int
    key: str
    """The request's own id; what is stored is named after it."""
    url: str
    directory: str
    """Below the media root: `/`, `/work`."""
    options: Mapping[str, Any]
    """What was asked for this one alone: fields of `streams.download_config.DownloadOptions` that were given."""
    client_id: str | None = None
    """Who wants to hear of it."""
    parent: int | None = None
    """The number of the playlist that it is an entry of."""
    subscription: int | None = None
    """The number of the subscription that found it."""
    entry: str | None = None
    """`<extractor> <id>`, where the list that named it told."""
    title: str = ""
    """As the list that named it told."""


@event()
class DownloadStarted(Event):
    """Its turn has come."""

    take: int
    """1 for the first, one more for each refresh."""
    attempt: int
    """Within the take, from 1."""
    host: str
    """Whose limits it counts against."""
    config: Mapping[str, Any]
    """What it is fetched with: fields of `streams.download_config.DownloadConfig`, with the request's own options."""

    def step(self) -> str:
        """Each attempt starts once."""
        return f"DownloadStarted/{self.take}/{self.attempt}"


@event()
class DownloadExtracted(Event):
    """The page was read: what it is, and what of it will be fetched."""

    take: int
    attempt: int
    extractor: str
    """yt-dlp's key of the site."""
    media_id: str
    """The site's own id."""
    title: str
    uploader: str | None
    uploader_url: str | None
    upload_date: str | None
    """`YYYY-MM-DD`."""
    description: str | None
    """Cut to 10,000 characters."""
    webpage_url: str | None
    duration: float | None
    chapters: tuple[Mapping[str, Any], ...]
    """`{"start": s, "end": s, "title": …}`, at most 500."""
    thumbnails: tuple[str, ...]
    """URLs, the best first, at most 10."""
    formats: tuple[Mapping[str, Any], ...]
    """What was chosen: `{"id", "ext", "kind": "video"|"audio"|"both", "width", "height", "codecs", "size", "note"}`."""
    live: bool
    size: int | None
    """Bytes, where it can be told before."""

    def step(self) -> str:
        """Once for each attempt."""
        return f"DownloadExtracted/{self.take}/{self.attempt}"


@event()
class DownloadPartFinished(Event):
    """One of the files that make it up has come in whole."""

    take: int
    attempt: int
    part: str
    """`video`, `audio`, `both`, `subtitles:<language>`, `thumbnail`."""
    format: str
    """The site's id of the format; empty where there is none."""
    size: int

    def step(self) -> str:
        """Once for each part and attempt."""
        return f"DownloadPartFinished/{self.take}/{self.attempt}/{self.part}"


@event()
class DownloadMerged(Event):
    """Its parts are one file now, with title, date and chapters in it."""

    take: int
    attempt: int
    container: str
    size: int
    parts: int
    warnings: tuple[str, ...] = ()
    duration: float | None = None
    """Seconds, as the file itself has it."""

    def step(self) -> str:
        """Once for each attempt."""
        return f"DownloadMerged/{self.take}/{self.attempt}"


@event()
class DownloadStored(Event):
    """It lies in the media root, whole and fsynced, and is a video from now on."""

    take: int
    video: str
    """The video's id."""
    path: OsPath
    """Absolute."""
    size: int
    files: tuple[OsPath, ...]
    """What lies beside it: `.nfo`, poster, subtitles. Absolute."""
    warnings: tuple[str, ...] = ()

    def step(self) -> str:
        """A take is stored once."""
        return f"DownloadStored/{self.take}"


@event()
class DownloadSkipped(Event):
    """What it would fetch is there already."""

    take: int
    number: int
    """The download that fetched it."""
    video: str
    path: OsPath

    def step(self) -> str:
        """Once for each take."""
        return f"DownloadSkipped/{self.take}"


@event()
class DownloadExpanded(Event):
    """It is a list: each entry that was taken is a download of its own."""

    take: int
    title: str
    entries: int
    """How many the list has, as far as it was read."""
    more: bool
    """Whether there are more than were read: the limit stood before."""
    limit: int
    numbers: tuple[int, ...]
    """Of the downloads of its entries, in the list's order."""
    skipped: tuple[int, ...]
    """Of the downloads that fetched the other entries before."""

    def step(self) -> str:
        """Once for each take."""
        return f"DownloadExpanded/{self.take}"


@event()
class DownloadPostponed(Event):
    """It cannot go on now and is tried again by itself."""

    take: int
    attempt: int
    kind: str
    """`retry`: it failed and may do better later. `scheduled`: it has not begun to be shown. `no_space`: the disk is
    full. `interrupted`: whoever fetched it stopped. `outage`: the media root, or a process of ours, cannot be used.
    Only `retry` costs an attempt."""
    reason: str
    until: datetime

    def step(self) -> str:
        """Once for each attempt."""
        return f"DownloadPostponed/{self.take}/{self.attempt}"


@event()
class DownloadFailed(Event):
    """It was given up."""

    take: int
    attempt: int
    kind: str
    """As in `processors.ports.FetchFailure`."""
    reason: str
    """In yt-dlp's own words, where it was yt-dlp that gave up."""
    advice: str = ""
    """What to do next."""

    def step(self) -> str:
        """A take fails once."""
        return f"DownloadFailed/{self.take}"


@event()
class DownloadCancelled(Event):
    """A person does not want it any more; or it was an entry of a list that nobody wants."""

    take: int
    reason: str

    def step(self) -> str:
        """A take is cancelled once."""
        return f"DownloadCancelled/{self.take}"


@event()
class DownloadRefreshed(Event):
    """It is queued again, under its old number."""

    take: int
    """The new one."""

    def step(self) -> str:
        """Each take begins once."""
        return f"DownloadRefreshed/{self.take}"


@event()
class DownloadDeleted(Event):
    """A person took it off the list."""

    keep_file: bool


@event()
class DownloadFilesRemoved(Event):
    """What it had put into the media root is gone, as was asked."""

    paths: tuple[OsPath, ...]
    """What was there to remove."""
    take: int = 0
    """Of the download that they were made by; 0: all of them, since it was deleted."""

    def step(self) -> str:
        """Once for each take."""
        return f"DownloadFilesRemoved/{self.take}"


@event()
class DownloadConfigChanged(Event):
    """On `sys:downloads`: how downloads are made from now on."""

    change: int
    """The how-manieth change it is, from 1."""
    config: Mapping[str, Any]
    """What a person set, all of it: fields of `streams.download_config.DownloadConfig`; what is not there is as
    the settings say."""
    preferences: Mapping[str, Any]
    """Free-form; ours to keep, not to read."""

    def step(self) -> str:
        """Each change has a number."""
        return f"DownloadConfigChanged/{self.change}"


# ---------------------------------------------------------------- a subscription: subscription:<number>


@event()
class SubscriptionNumbered(Event):
    """On `registry:subscriptions`: the number that goes with this event's version is this subscription's."""

    key: str

    def step(self) -> str:
        """A request is numbered once."""
        return f"SubscriptionNumbered/{self.key}"


@event()
class SubscriptionCreated(Event):
    """A list is looked at again and again, and what is new in it is fetched."""

    number: int
    key: str
    url: str
    interval: float
    """Seconds between two looks."""
    filter: str
    """Entries whose titles contain a match of this regular expression are taken; empty: all."""
    directory: str
    options: Mapping[str, Any]
    """As in DownloadRequested."""
    backlog: int
    """How many of the entries that are there at the first look are fetched."""
    client_id: str | None = None


@event()
class SubscriptionChanged(Event):
    """A person changed it; None: as it was."""

    change: int
    interval: float | None = None
    filter: str | None = None
    directory: str | None = None
    paused: bool | None = None

    def step(self) -> str:
        """Each change has a number."""
        return f"SubscriptionChanged/{self.change}"


@event()
class SubscriptionDue(Event):
    """It is time to look."""

    check: int
    """The how-manieth look it is, from 1."""
    reason: str

    def step(self) -> str:
        """Each look has a number."""
        return f"SubscriptionDue/{self.check}"


@event()
class SubscriptionChecked(Event):
    """The list was read."""

    check: int
    title: str
    entries: int
    seen: tuple[str, ...]
    """`<extractor> <id>` of entries that were not known before, newest first."""
    numbers: tuple[int, ...]
    """Of the downloads that were asked for."""

    def step(self) -> str:
        """Each look has a number."""
        return f"SubscriptionChecked/{self.check}"


@event()
class SubscriptionCheckFailed(Event):
    """The list could not be read; the next look is on time all the same."""

    check: int
    kind: str
    reason: str

    def step(self) -> str:
        """Each look has a number."""
        return f"SubscriptionCheckFailed/{self.check}"


@event()
class SubscriptionRemoved(Event):
    """A person does not want it any more. What it fetched stays."""


# ---------------------------------------------------------------- a watched root: root:<uuid>


@event()
class RootRegistered(Event):
    """A folder is watched for the first time."""

    path: OsPath


@event()
class RootHeld(Event):
    """Files vanished in a way that looks like a lost mount; nothing is removed until someone says so."""

    path: OsPath
    hold: int
    """The how-manieth hold of this root it is, from 1."""
    reason: str
    missing: int
    """How many known files are not there."""
    digest: str = ""
    """sha256 over the missing videos' ids, so that an answer given while no one watched is applied
    to exactly these."""

    def step(self) -> str:
        """Each hold has a number."""
        return f"RootHeld/{self.hold}"


@event()
class RootReleased(Event):
    """A hold ended: the files came back, or a person answered."""

    path: OsPath
    hold: int
    answer: Literal["returned", "confirmed", "rejected"]
    """`confirmed`: the removals are real. `rejected`: keep the rows, ask no more until it changes."""

    def step(self) -> str:
        """A hold ends once."""
        return f"RootReleased/{self.hold}"


# ---------------------------------------------------------------- the system: sys:log


@event()
class EpochRaised(Event):
    """The log had lost its tail; what could be re-appended was, and projections were rebuilt."""

    epoch: int
    reason: str
    reappended: int
    """How many events came back from sidecars."""

    def step(self) -> str:
        """Each epoch once."""
        return f"EpochRaised/{self.epoch}"


# ---------------------------------------------------------------- a disk: sys:disk


@event()
class DiskSpaceLow(Event):
    """A disk that we write to has less room than the settings ask for."""

    path: OsPath
    """The folder that was looked at."""
    free: int
    """Bytes."""
    limit: int
    """Bytes: the mark that it is below."""
    mark: Literal["low", "hard"]
    """`low`: a warning. `hard`: uploads are refused and watching pauses."""
    warning: int
    """The how-manieth change of state of any disk it is, from 1."""

    def step(self) -> str:
        """Each change has a number."""
        return f"DiskSpaceLow/{self.warning}"


@event()
class DiskSpaceRecovered(Event):
    """A disk has room again."""

    path: OsPath
    free: int
    warning: int

    def step(self) -> str:
        """Each change has a number."""
        return f"DiskSpaceRecovered/{self.warning}"


StoredData = Mapping[str, Any]
