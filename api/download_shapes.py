"""The JSON of the routes for downloads, as types: see `api/shapes.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.shapes import closed, shape
from streams.download_config import MAX_CONCURRENCY, MAX_LIST, Language
from streams.downloads import DownloadStatus

Url = Annotated[str, Field(min_length=1, max_length=4096, json_schema_extra={"format": "uri"})]
Selector = Annotated[str, Field(min_length=1, max_length=500)]
Height = Annotated[int, Field(ge=16, le=8640)]
Entries = Annotated[int, Field(ge=1, le=MAX_LIST)]
Languages = Annotated[list[Language], Field(max_length=50)]
Client = Annotated[str, Field(min_length=1, max_length=128)]
Directory = Annotated[str, Field(max_length=512)]

# ---------------------------------------------------------------- downloads


@shape
class DownloadProgress(TypedDict):
    """How far a download is. Not kept: it is as it was last heard of."""

    percent: float
    """0 to 100; 0 where the end is not known."""
    bytes: int | None
    """That have come in."""
    total: int | None
    """That are expected."""
    speed: float | None
    """Bytes a second."""
    eta: float | None
    """Seconds until it is there."""


@shape
class DownloadFields(TypedDict):
    """What all that tell of a download share."""

    id: int
    vid_url: str
    """As it was asked for."""
    title: str
    """As its page says it; empty until that was read."""
    status: DownloadStatus
    """`Pending`: it waits for its turn, or for another try. `Processing`: it is being fetched. `Downloaded`: it lies
    there. `Error`: it was given up, or cancelled."""
    status_message: str
    """`In-Queue`; what is being done; or what went wrong, and what to do about it."""
    vid_dir: str
    """Folder below the media root: `/`, `/work`."""
    file_path: str | None
    """Where it lies; null until it does."""
    video_id: str | None
    """What `GET /api/videos/{id}` knows it by, once it lies there."""
    uploader: str | None
    duration: float | None
    """Seconds, as its page says."""
    size: int | None
    """Bytes, as far as known."""
    progress: DownloadProgress
    attempt: int
    """The how-manieth it is since it was last queued; 0: none was begun."""
    retry_at: str | None
    """When it is tried again, where it was put off."""
    error: str | None
    """The kind of what went wrong, for programs: `gone`, `private`, `login`, `network`, `cancelled` …"""
    parent: int | None
    """The list that it is an entry of."""
    entries: list[int]
    """Of a list: the downloads of its entries, in the list's order."""
    subscription: int | None
    """The subscription that found it."""
    duplicate_of: int | None
    """The download that had fetched the same before."""
    client_id: str | None
    """Who hears of it over `/ws/{client_id}`."""
    options: dict[str, Any]
    """What was asked for this one alone."""
    created_at: str
    """ISO 8601 with the zone, as all times here."""
    updated_at: str


@shape
class ShownDownload(DownloadFields):
    """A download."""

    type: Literal["video", "list"]
    """`list`: a playlist or channel; each entry of it is a download of its own."""


@shape
class DownloadMessage(DownloadFields):
    """What a WebSocket is told of a download."""

    type: Literal["download"]
    kind: Literal["video", "list"]
    deleted: bool
    """It is not on the list any more."""


@closed
class DownloadWish(TypedDict):
    """What is to be fetched. What is null or left out is as `GET /config` says."""

    url: Url
    """Of a page with a video, of a video, of a playlist or channel. `vid_url` is understood, too."""
    directory: NotRequired[Directory | None]
    """Folder below the media root: `/`, `/work`; it is made where it is missing. `vid_dir` is understood, too."""
    client_id: NotRequired[Client | None]
    """Whoever opens `/ws/{client_id}` hears of it."""
    format: NotRequired[Selector | None]
    """A yt-dlp format selector, e.g. `bv*+ba/b`."""
    max_height: NotRequired[Height | None]
    """Pixels: the quality ceiling."""
    audio_only: NotRequired[bool | None]
    subtitles: NotRequired[Languages | None]
    """Languages (`en`, `de`, `en.*`); empty: none."""
    auto_subtitles: NotRequired[bool | None]
    """Also subtitles that a machine wrote."""
    limit: NotRequired[Entries | None]
    """Entries of a playlist or channel that are taken."""
    type: NotRequired[Literal["video"]]


@closed
class AttributedDownloadWish(TypedDict):
    """The same below `attributes`."""

    type: NotRequired[Literal["video"]]
    attributes: DownloadWish


@closed
class StatusWish(TypedDict):
    """What is to become of a download. The other fields of the object may be sent along; they are overlooked."""

    status: Literal["refresh", "cancel"]
    """`refresh`: queue it again. `cancel`: stop it. In any letter case."""
    type: NotRequired[Literal["video"]]


@closed
class AttributedStatusWish(TypedDict):
    """The same below `attributes`."""

    type: NotRequired[Literal["video"]]
    attributes: StatusWish


# ---------------------------------------------------------------- how they are made


@shape
class ShownConfig(TypedDict):
    """How downloads are made."""

    format: str
    """A yt-dlp format selector."""
    max_height: int | None
    """Pixels: the quality ceiling; null: none."""
    audio_only: bool
    subtitles: list[str]
    """Languages of subtitles that are fetched, too."""
    auto_subtitles: bool
    """Also those that a machine wrote."""
    limit: int
    """Entries of a playlist or channel that are taken unless more are asked for."""
    concurrency: int
    """Downloads side by side."""
    per_host: int
    """Of those, from one host; 0: no limit of its own."""
    sleep: float
    """Seconds between two downloads from one host, and between two requests of one download."""
    rate_limit: int | None
    """Bytes a second, of each download; null: as fast as it goes."""
    template: str
    """Folder and name below the media root, without the extension."""
    directory: str
    """Where what names no directory goes, below the media root."""
    cookies: str | None
    """Name of a file in the folder for cookies (SPOOLHOUSE_COOKIES_DIR); null: no cookies."""
    wait_for_live: bool
    """Streams that are live, or have not begun, are waited for and recorded; else they are refused."""
    preferences: dict[str, Any]
    """Free-form: kept as it was sent, for whoever sent it."""


@closed
class ConfigWish(TypedDict):
    """What is to be changed of how downloads are made; the rest stays."""

    format: NotRequired[Selector]
    max_height: NotRequired[Height | None]
    audio_only: NotRequired[bool]
    subtitles: NotRequired[Languages]
    auto_subtitles: NotRequired[bool]
    limit: NotRequired[Entries]
    concurrency: NotRequired[Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)]]
    per_host: NotRequired[Annotated[int, Field(ge=0, le=MAX_CONCURRENCY)]]
    sleep: NotRequired[Annotated[float, Field(ge=0, le=3600)]]
    rate_limit: NotRequired[Annotated[int, Field(ge=1024)] | None]
    template: NotRequired[Annotated[str, Field(min_length=1, max_length=300)]]
    directory: NotRequired[Directory]
    cookies: NotRequired[Annotated[str, Field(max_length=100)] | None]
    wait_for_live: NotRequired[bool]
    preferences: NotRequired[dict[str, Any]]
    """Takes the place of what was there, as a whole: read it first to change a part."""
    type: NotRequired[Literal["config"]]


@closed
class AttributedConfigWish(TypedDict):
    """The same below `attributes`."""

    type: NotRequired[Literal["config"]]
    attributes: ConfigWish


# ---------------------------------------------------------------- subscriptions


@shape
class ShownSubscription(TypedDict):
    """A list that is looked at again and again; what is new in it is fetched."""

    id: int
    type: Literal["subscription"]
    url: str
    title: str
    """Of the list, as it was read last; empty before."""
    interval: float
    """Seconds between two looks."""
    filter: str
    """Entries whose titles contain a match of this regular expression are taken; empty: all."""
    directory: str
    options: dict[str, Any]
    """What is fetched in another way than the configuration says."""
    backlog: int
    """How many of the entries that were there at the first look are fetched."""
    paused: bool
    client_id: str | None
    entries: int
    """Of the list, when it was read last."""
    downloads: int
    """That were asked for, all in all."""
    checked_at: str | None
    """When it was last read."""
    next_check_at: str | None
    """When it is looked at next; null while it is paused."""
    failures: int
    """Looks that failed since it was last read."""
    error: str | None
    """Why the last look failed."""
    created_at: str
    updated_at: str


@closed
class SubscriptionWish(TypedDict):
    """A new subscription."""

    url: Url
    """Of a channel, a playlist, a feed."""
    interval: NotRequired[Annotated[float, Field(gt=0)] | None]
    """Seconds between two looks. Unset: SPOOLHOUSE_SUBSCRIPTION_INTERVAL."""
    filter: NotRequired[Annotated[str, Field(max_length=500)] | None]
    """A regular expression for titles; empty: all."""
    directory: NotRequired[Directory | None]
    options: NotRequired[dict[str, Any] | None]
    """What is fetched in another way than the configuration says: `format`, `max_height`, `audio_only` …"""
    backlog: NotRequired[Annotated[int, Field(ge=0, le=500)]]
    """How many of the entries that are there already are fetched, too: the newest."""
    client_id: NotRequired[Client | None]
    """Whoever opens `/ws/{client_id}` hears of what it fetches."""
    type: NotRequired[Literal["subscription"]]


@closed
class AttributedSubscriptionWish(TypedDict):
    """The same below `attributes`."""

    type: NotRequired[Literal["subscription"]]
    attributes: SubscriptionWish


@closed
class SubscriptionPatch(TypedDict):
    """What is to be changed of a subscription; the rest stays."""

    interval: NotRequired[Annotated[float, Field(gt=0)]]
    filter: NotRequired[Annotated[str, Field(max_length=500)]]
    directory: NotRequired[Directory]
    paused: NotRequired[bool]
    type: NotRequired[Literal["subscription"]]


@closed
class AttributedSubscriptionPatch(TypedDict):
    """The same below `attributes`."""

    type: NotRequired[Literal["subscription"]]
    attributes: SubscriptionPatch
