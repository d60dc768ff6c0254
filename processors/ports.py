"""What processors ask of outside things, in our own words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from streams.download_config import DownloadConfig
from streams.events import Action, RenditionKind
from streams.paths import OsPath


@dataclass(frozen=True, slots=True)
class Probed:
    """What a video's container and streams say."""

    container: str
    """FFmpeg's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration: float | None
    """Seconds."""
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
    """Bytes."""
    damaged: str | None = None
    """What is wrong with it all the same, e.g. that its end is missing."""
    metadata: Mapping[str, Any] | None = None
    """Everything else that is known: see `processors.media.metadata`."""


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why nothing is known of a file."""

    kind: Literal["gone", "unreadable", "no_video", "timeout", "crashed", "unavailable"]
    """`gone`: no file there. `unreadable`: no container, or a damaged one. `no_video`: whole, but
    without a picture. `timeout`, `crashed`: the prober gave up on it. `unavailable`: no prober."""
    reason: str


class Prober(Protocol):
    """Reads what a video is, without trusting it."""

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """Look at a file. Never raises for what the file is or does; takes a bounded time."""
        ...


# ---------------------------------------------------------------- renditions and previews


@dataclass(frozen=True, slots=True)
class EnhanceJob:
    """One rendition that is to be made."""

    path: OsPath
    """Of the source. Only read."""
    target: OsPath
    """Where to write, whole or not at all to be used: made anew by whoever does the work. Its folder is there.

    For `hls` the playlist is written beside it: `<target>.m3u8`, naming the media file as `media_name`.
    """
    kind: RenditionKind
    mode: Literal["auto", "always"]
    """`auto`: what plays everywhere already is taken as it is, unless the preset wants picture work."""
    preset: Mapping[str, Any]
    """The fields of `streams.presets.Preset`."""
    height: int | None
    """Pixels, of an `hls` rung; never more than the source has. None: as the preset says."""
    segment: float
    """Seconds of an `hls` segment."""
    media_name: str
    """Under which a playlist names the media file."""
    threads: int
    """0: as many as there are cores."""


@dataclass(frozen=True, slots=True)
class Planned:
    """How the rendition will be made. Comes first, and once more for each fallback."""

    action: Action
    reason: str
    encoder: str
    """`libx264`, `libvpx-vp9` …; `copy`."""
    width: int
    height: int
    frames: int | None
    """Expected, where it can be told."""
    duration: float | None


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far it is. At most twice a second."""

    frames: int
    expected: int | None
    percent: float | None
    """0 to 100; None where the end is not known."""


@dataclass(frozen=True, slots=True)
class Made:
    """A rendition lies whole at the job's target, and was looked at again."""

    action: Action
    reason: str
    encoder: str
    container: str
    """`mp4` or `webm`."""
    mime: str
    duration: float | None
    width: int
    height: int
    video_codec: str
    audio_codec: str | None
    codecs: str
    """RFC 6381."""
    bit_rate: int
    """Bits a second: of an `hls` rung the highest that a segment takes, else the average."""
    frames: int
    damage: str | None
    """What did not decode."""
    warnings: tuple[str, ...]
    parameters: Mapping[str, Any]
    tools: Mapping[str, str]
    seconds: float
    cpu_seconds: float
    peak_memory: int
    """Bytes, resident, of the process that made it."""


@dataclass(frozen=True, slots=True)
class MediaFailure:
    """Why there is no rendition, or no picture."""

    kind: Literal[
        "gone", "unreadable", "no_video", "too_large", "unencodable", "timeout", "stalled", "memory", "crashed",
        "killed", "disk_full", "unwritable", "unavailable",
    ]  # fmt: skip
    """`gone` … `unencodable`, `timeout`, `stalled`, `memory`, `crashed`: the file's own fault. `killed`: the
    process was ended from outside (kill -9, the kernel's out-of-memory killer): worth another try. `disk_full`,
    `unwritable`: where it was to be written. `unavailable`: no process could be started."""
    reason: str


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """A poster and a sheet of small pictures that are to be made."""

    path: OsPath
    folder: OsPath
    """Where to write `poster.jpg`, `poster.webp`, `sprite.jpg` and `thumbnails.vtt`. It is there, and empty."""
    sprite_name: str = "sprite.jpg"
    """How the WebVTT names the sheet."""


@dataclass(frozen=True, slots=True)
class Previews:
    """They lie there."""

    at: float
    width: int
    height: int
    tiles: int
    """0: no sheet and no WebVTT were made."""


@dataclass(frozen=True, slots=True)
class FinishJob:
    """Files that came down and are to be one, as they are: nothing is encoded again."""

    media: tuple[OsPath, ...]
    """One with picture and sound, or the picture and then the sound; or sound alone."""
    target: OsPath
    """Where to write; its folder is there."""
    tags: Mapping[str, str]
    """`title`, `artist`, `date`, `comment`, `description`, `genre` …"""
    chapters: tuple[Mapping[str, Any], ...]
    """`{"start": s, "end": s, "title": …}`."""
    audio_only: bool


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """It lies at the job's target."""

    container: str
    """`mp4`, `mkv`, `m4a`, `mp3`, `opus` …: also its extension, without the dot."""
    mime: str
    duration: float | None
    warnings: tuple[str, ...]
    """What had to be left out, for people."""


class Studio(Protocol):
    """Works on pictures in processes of its own, which hostile files may crash, stall or fill."""

    def enhance(self, job: EnhanceJob) -> AsyncGenerator[Planned | Advanced | Made | MediaFailure]:
        """Make a rendition. Ends with Made or MediaFailure; never raises for what the file is or does.

        Leave it early by closing it: the process is ended, what it has written so far stays.
        """
        ...

    def finish(self, job: FinishJob) -> AsyncGenerator[Advanced | FinishedFile | MediaFailure]:
        """Make one file of what came down. Ends with FinishedFile or MediaFailure; never raises for what the files are.

        Leave it early by closing it, like `enhance`.
        """
        ...

    async def still(self, path: OsPath, target: OsPath) -> MediaFailure | None:
        """Make a JPEG at `target` of a picture in any format, or of a film's telling frame. None: it is there."""
        ...

    async def preview(self, job: PreviewJob) -> Previews | MediaFailure:
        """Make the poster and the sheet. Takes a bounded time."""
        ...


# ---------------------------------------------------------------- downloads


@dataclass(frozen=True, slots=True)
class FetchJob:
    """What lies behind one URL, to be fetched."""

    url: str
    folder: OsPath
    """Where to write: ours alone, kept from one attempt to the next. What an earlier one left is gone on from."""
    config: DownloadConfig


@dataclass(frozen=True, slots=True)
class Extracted:
    """The page was read. The fields of `streams.events.DownloadExtracted`, without take and attempt."""

    extractor: str
    media_id: str
    title: str
    uploader: str | None
    uploader_url: str | None
    upload_date: str | None
    description: str | None
    webpage_url: str | None
    duration: float | None
    chapters: tuple[Mapping[str, Any], ...]
    thumbnails: tuple[str, ...]
    formats: tuple[Mapping[str, Any], ...]
    live: bool
    size: int | None


@dataclass(frozen=True, slots=True)
class ListEntry:
    """An entry of a list."""

    url: str
    key: str | None
    """`<extractor> <id>`, where the list tells."""
    title: str


@dataclass(frozen=True, slots=True)
class Listed:
    """It is a list: a playlist, a channel, a page with several videos."""

    title: str
    entries: tuple[ListEntry, ...]
    """At most as many as were asked for (`DownloadConfig.limit`), in the list's order, each URL once."""
    total: int
    """How many it has, as far as that is known."""
    more: bool


@dataclass(frozen=True, slots=True)
class Received:
    """How far it is. At most twice a second."""

    part: str
    """`video`, `audio`, `both`, `subtitles:<language>`, `thumbnail`."""
    number: int
    """The how-manieth of `parts`, from 0."""
    parts: int
    bytes: int
    total: int | None
    speed: float | None
    """Bytes a second."""
    eta: float | None
    """Seconds."""
    percent: float | None
    """0 to 100, of everything; None where the end is not known."""


@dataclass(frozen=True, slots=True)
class PartFinished:
    """One of its files has come in whole."""

    part: str
    format: str
    size: int


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file in the job's folder."""

    part: str
    path: OsPath
    format: str
    size: int
    language: str | None = None
    """Of subtitles."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """All of it lies in the job's folder."""

    media: tuple[FetchedFile, ...]
    """One that has picture and sound, or the picture and then the sound."""
    subtitles: tuple[FetchedFile, ...]
    thumbnail: FetchedFile | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """Why it is not there."""

    kind: Literal[
        "unsupported", "refused", "gone", "private", "login", "age", "geo", "payment", "drm", "live", "format",
        "too_large", "invalid", "scheduled",
        "limited", "server", "network", "timeout", "stalled", "memory", "crashed", "killed", "extractor",
        "no_space", "unwritable", "unavailable",
    ]  # fmt: skip
    """Final: `unsupported` (no video there that we know how to fetch), `refused` (an inner address, or a scheme that
    is not fetched), `gone`, `private`, `login`, `age`, `geo`, `payment`, `drm`, `live` (it is live or scheduled, and
    the configuration says not to wait), `format` (none fits), `too_large`, `invalid` (what came is no video).
    `scheduled`: it begins at `begins`. Worth another try: `limited` (429 and the like), `server` (5xx), `network`,
    `timeout`, `stalled`, `memory`, `crashed`, `killed`, `extractor` (the page was not understood). Not its own fault:
    `no_space`, `unwritable`, `unavailable` (no process could be started, or we are stopping)."""
    reason: str
    """In yt-dlp's own words where it was yt-dlp that gave up, printable, without secrets."""
    advice: str = ""
    """What a person can do; names the setting."""
    retry_after: float | None = None
    """Seconds that the server asked for."""
    begins: datetime | None = None


FINAL_FAILURES = frozenset(
    [
        "unsupported",
        "refused",
        "gone",
        "private",
        "login",
        "age",
        "geo",
        "payment",
        "drm",
        "live",
        "format",
        "too_large",
        "invalid",
    ]
)
"""Kinds that no other attempt would change."""


class Fetcher(Protocol):
    """Fetches with yt-dlp, in processes of their own that reach nothing but what they may reach."""

    def fetch(
        self, job: FetchJob
    ) -> AsyncGenerator[Extracted | Listed | Received | PartFinished | Fetched | FetchFailure]:
        """Read the page and fetch what it shows. Ends with Listed, Fetched or FetchFailure; raises nothing.

        Leave it early by closing it: the process and all that it started are ended at once; what came in stays.
        """
        ...

    async def listed(self, url: str, config: DownloadConfig) -> Listed | FetchFailure:
        """Read a list without fetching anything; a single video is a list of one. Takes a bounded time."""
        ...

    def refusal(self, url: str) -> FetchFailure | None:
        """Why a URL will not be fetched, where that is clear without asking anyone: a scheme, an inner address."""
        ...


# ---------------------------------------------------------------- the object store


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What an object store says of an object."""

    key: str
    size: int
    """Bytes."""
    etag: str | None
    """Without quotes; None where the store keeps none (a directory)."""


class ObjectStore(Protocol):
    """Keeps objects under keys, whole or not at all: an S3-compatible server, or a directory on another disk.

    Everything raises DependencyDownError where the store cannot be used at all (unreachable, no
    answer in time, bad credentials, a forbidden bucket), TransientError where it failed at this one
    object (403 on the object, a 5xx that stays, a checksum that differs).
    """

    label: str
    """For people: `s3://videos at http://127.0.0.1:9000`, `file:///mnt/other-disk/videos`. No secrets."""

    async def prepare(self) -> None:
        """Make the bucket where it is missing. Cheap when it was done before."""
        ...

    async def put(self, key: str, data: bytes, *, sha256: str, md5: str) -> str:
        """Store an object, replacing it; its ETag. Hex digests of `data`, for whoever checks them on the way.

        Raises TransientError where the store answers with another MD5 as ETag than that of the data.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """An object's content (chunks and manifests: a few MiB); None where it is not there."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """What is known of an object; None where it is not there."""
        ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose key begins with `prefix`, by key."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are none."""
        ...


# ---------------------------------------------------------------- Google Drive


@dataclass(frozen=True, slots=True)
class DriveFile:
    """What Drive says of a file."""

    id: str
    name: str
    size: int
    md5: str | None
    """Hex; None while Drive has not computed it."""
    trashed: bool
    link: str
    """`https://drive.google.com/file/d/<id>/view`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at on the way to Drive."""

    subject: Literal["credentials", "token", "folder", "rights", "quota", "sharing"]
    ok: bool
    told: str
    """What was found, for people."""
    advice: str = ""
    """What to do next, where it is not well and `told` does not say it."""


class DriveSessionExpiredError(Exception):
    """The upload session is gone: open another, with the same file id."""


class DriveFileExistsError(Exception):
    """There is a file of that id already: an earlier reply was lost."""


class Drive(Protocol):
    """Google Drive, as far as copies of videos need it.

    Everything raises DependencyDownError (unreachable, bad credentials, the limit for a day is
    reached) or TransientError (rate limits and 5xx that stay after backing off as Google asks).
    """

    folder_id: str

    async def new_file_id(self) -> str:
        """An id that the next file may be created with."""
        ...

    async def find(self, video: str, revision: int) -> DriveFile | None:
        """The file in our folder that carries this video and revision in its appProperties."""
        ...

    async def get(self, file_id: str) -> DriveFile | None:
        """A file by its id; None where there is none."""
        ...

    async def open_session(self, file_id: str, name: str, mime: str, size: int, properties: Mapping[str, str]) -> str:
        """Begin a resumable upload into our folder; the session's URI. Raises DriveFileExistsError."""
        ...

    async def received(self, uri: str, size: int) -> int | DriveFile:
        """How many bytes a session has, or the file, where it has them all. Raises DriveSessionExpiredError."""
        ...

    async def send(self, uri: str, data: bytes, offset: int, size: int) -> int | DriveFile:
        """Send the bytes at `offset`; how many the session has now, or the file. Raises DriveSessionExpiredError."""
        ...

    async def share(self, file_id: str, audience: str) -> None:
        """Let `anyone` with the link, or a domain, read it. Harmless to repeat."""
        ...

    async def download(self, file_id: str, offset: int, length: int) -> bytes:
        """Bytes of a file."""
        ...

    async def delete(self, file_id: str) -> None:
        """Remove a file for good; one that is not there is none."""
        ...

    async def diagnose(self) -> list[Finding]:
        """Look at credentials, token, folder, rights, quota and sharing, in this order, until one makes the rest moot.

        Raises nothing of the above: what fails is a finding.
        """
        ...
