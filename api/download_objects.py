"""A download as the API shows it: one flat object, the same in answers, in messages and at the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from api.download_shapes import DownloadFields, DownloadMessage, DownloadProgress, ShownDownload
from api.percentages import Percentages
from streams.downloads import Download
from streams.identity import download_subject
from streams.paths import escape_path

TASK = "download"
"""What tells of progress calls it."""


def as_download(download: Download, percentages: Percentages | None) -> ShownDownload:
    """As it stands; `percentages`: with how far it is."""
    return {"type": kind_of(download), **_fields(download, percentages)}


def as_message(download: Download, percentages: Percentages) -> DownloadMessage:
    """The same for a WebSocket, whose messages have a `type` of their own."""
    deleted = download.phase == "deleted"
    return {"type": "download", "kind": kind_of(download), "deleted": deleted, **_fields(download, percentages)}


def kind_of(download: Download) -> Literal["video", "list"]:
    """What it turned out to be; a video until that is known."""
    return "list" if download.phase == "expanded" or download.numbers else "video"


def _fields(download: Download, percentages: Percentages | None) -> DownloadFields:
    progress, message = _moving(download, percentages)
    return {
        "id": download.number,
        "vid_url": download.url,
        "title": download.title,
        "status": download.status,
        "status_message": message,
        "vid_dir": download.directory,
        "file_path": None if download.path is None else escape_path(download.path),
        "video_id": download.video,
        "uploader": download.uploader,
        "duration": download.duration,
        "size": download.size,
        "progress": progress,
        "attempt": download.attempt,
        "retry_at": _told(download.until),
        "error": download.error,
        "parent": download.parent,
        "entries": list(download.numbers),
        "subscription": download.subscription,
        "duplicate_of": download.duplicate_of,
        "client_id": download.client_id,
        "options": dict(download.options),
        "created_at": moment(download.requested),
        "updated_at": moment(download.changed),
    }


def moment(at: datetime) -> str:
    """ISO 8601 with the zone, local time."""
    return at.astimezone().isoformat(timespec="seconds")


def _told(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def _moving(download: Download, percentages: Percentages | None) -> tuple[DownloadProgress, str]:
    """How far it is, and the newest words about that."""
    if download.status == "Downloaded":
        size = download.size if download.phase == "stored" else None
        return {"percent": 100.0, "bytes": size, "total": size, "speed": None, "eta": None}, download.message
    heard = None
    # Before its page was read, what was heard is of an earlier attempt.
    if percentages is not None and download.phase in {"fetching", "merged"}:
        heard = percentages.heard(download_subject(download.number), TASK, download.changed)
    if heard is None:
        return {"percent": 0.0, "bytes": None, "total": None, "speed": None, "eta": None}, download.message
    told = heard.details
    return {
        "percent": heard.percent,
        "bytes": told.get("bytes"),
        "total": told.get("total"),
        "speed": told.get("speed"),
        "eta": told.get("eta"),
    }, heard.message or download.message
