"""How a download stands, folded from its own events: by the table, the dispatcher, the API and whoever fetches.

`folded` looks at one event of one `download:<number>` at a time and is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from streams.codec import Recorded
from streams.events import (
    DownloadCancelled,
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadMerged,
    DownloadPartFinished,
    DownloadPostponed,
    DownloadRefreshed,
    DownloadRequested,
    DownloadSkipped,
    DownloadStarted,
    DownloadStored,
    EntryParked,
)
from streams.paths import OsPath

DownloadStatus = Literal["Pending", "Processing", "Downloaded", "Error"]
"""The names are a contract."""

Phase = Literal[
    "queued", "postponed", "starting", "fetching", "merged",
    "stored", "skipped", "expanded", "failed", "cancelled", "deleted",
]  # fmt: skip

IN_QUEUE = "In-Queue"
"""The message of what waits for its turn. A contract."""

STATUS: Mapping[Phase, DownloadStatus] = {
    "queued": "Pending",
    "postponed": "Pending",
    "starting": "Processing",
    "fetching": "Processing",
    "merged": "Processing",
    "stored": "Downloaded",
    "skipped": "Downloaded",
    "expanded": "Downloaded",
    "failed": "Error",
    "cancelled": "Error",
    "deleted": "Error",
}

MAX_MESSAGE = 2000
"""Characters."""

GROUP = "download"
"""The processor that fetches."""

PARKED = "parked"
"""The kind of error of what the processor gave up on for our own sake: a replay goes on with it."""


@dataclass(frozen=True, slots=True)
class Download:
    """One download, as far as its events tell."""

    number: int
    key: str
    url: str
    directory: str
    options: Mapping[str, Any]
    client_id: str | None
    parent: int | None
    subscription: int | None
    entry: str | None
    """`<extractor> <id>`: of the list that named it, then of its own page."""
    title: str
    phase: Phase
    message: str
    """For people; the error where there is one."""
    take: int
    attempt: int
    """Of this take, the last that was started; 0: none."""
    failures: int
    """Of this take: attempts that failed and were put off."""
    until: datetime | None
    """When what was put off is tried again."""
    host: str | None
    error: str | None
    """The kind of the failure."""
    audio_only: bool
    """As it was last started with."""
    uploader: str | None
    duration: float | None
    webpage_url: str | None
    size: int | None
    video: str | None
    path: OsPath | None
    files: tuple[OsPath, ...]
    """What lies beside it."""
    duplicate_of: int | None
    numbers: tuple[int, ...]
    """Of a list: its entries."""
    requested: datetime
    changed: datetime
    ver: int
    """Of its subject."""

    @property
    def status(self) -> DownloadStatus:
        """In the contract's words."""
        return STATUS[self.phase]

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done, or is being done."""
        return self.status in {"Pending", "Processing"}

    @property
    def archive_key(self) -> str | None:
        """What tells that two downloads would fetch the same: extractor and id, and whether only its sound."""
        return None if self.entry is None else f"{self.entry}{' (audio)' if self.audio_only else ''}"


def fold(history: Iterable[Recorded[Any]]) -> Download | None:
    """A download after all of these events; None where it was never asked for."""
    download = None
    for recorded in history:
        download = folded(download, recorded)
    return download


def folded(download: Download | None, recorded: Recorded[Any]) -> Download | None:
    """A download after one more event; the same object where it changes nothing."""
    event = recorded.event
    if isinstance(event, DownloadRequested):
        return _requested(event, recorded) if download is None else download
    if download is None or download.phase == "deleted":
        return _after_deletion(download, recorded)
    changed = _changes(download, event)
    if changed is None:
        return replace(download, ver=recorded.ver) if recorded.ver > download.ver else download
    return replace(download, **changed, ver=recorded.ver, changed=recorded.time)


def _requested(event: DownloadRequested, recorded: Recorded[Any]) -> Download:
    return Download(
        number=event.number,
        key=event.key,
        url=event.url,
        directory=event.directory,
        options=event.options,
        client_id=event.client_id,
        parent=event.parent,
        subscription=event.subscription,
        entry=event.entry,
        title=event.title,
        phase="queued",
        message=IN_QUEUE,
        take=1,
        attempt=0,
        failures=0,
        until=None,
        host=None,
        error=None,
        audio_only=bool(event.options.get("audio_only")),
        uploader=None,
        duration=None,
        webpage_url=None,
        size=None,
        video=None,
        path=None,
        files=(),
        duplicate_of=None,
        numbers=(),
        requested=recorded.time,
        changed=recorded.time,
        ver=recorded.ver,
    )


def _after_deletion(download: Download | None, recorded: Recorded[Any]) -> Download | None:
    """What was deleted stays so, but what came of it just then must be known, so that it is removed too."""
    if download is None:
        return None
    match recorded.event:
        case DownloadStored(video=video, path=path, files=files):
            return replace(download, video=video, path=path, files=files, ver=recorded.ver)
        case DownloadFilesRemoved():
            return replace(download, path=None, files=(), ver=recorded.ver)
    return replace(download, ver=recorded.ver)


def _changes(download: Download, event: Any) -> dict[str, Any] | None:
    """What an event changes; None: nothing. Events of a take that is over change nothing but what lies on the disk."""
    match event:
        case DownloadDeleted():
            return {"phase": "deleted", "message": "deleted", "until": None}
        case DownloadFilesRemoved():
            return {"path": None, "files": ()} if event.take in {0, download.take} else None
        case DownloadRefreshed():
            return _refreshed(event) if event.take > download.take else None
        case EntryParked():
            return _parked(event) if event.group == GROUP and download.status == "Processing" else None
    if getattr(event, "take", None) != download.take or getattr(event, "attempt", download.attempt) < download.attempt:
        return None
    if not download.is_open and download.error != PARKED:
        return _after_end(download, event)
    if download.status == "Pending" and isinstance(event, DownloadExtracted | DownloadPartFinished | DownloadMerged):
        return None  # written late: nobody is at work on it
    return _progress(event) or _ending(download, event)


def _after_end(download: Download, event: Any) -> dict[str, Any] | None:
    """What ended does not come to life again by what was written at the same moment; what lies on the disk counts."""
    match event:
        case DownloadStored():
            return _stored(event)
        case DownloadExpanded() if download.phase == "cancelled":
            return {"title": event.title, "numbers": event.numbers}  # so that its entries are cancelled, too
        case DownloadCancelled() if download.phase == "expanded":
            return _ending(download, event)
    return None


def _progress(event: Any) -> dict[str, Any] | None:
    """What an event changes that leads to a new file."""
    match event:
        case DownloadStarted():
            return {
                "phase": "starting",
                "message": "Starting",
                "attempt": event.attempt,
                "until": None,
                "host": event.host,
                "error": None,
                "audio_only": bool(event.config.get("audio_only")),
            }
        case DownloadExtracted():
            return {
                "phase": "fetching",
                "message": "Downloading",
                "entry": f"{event.extractor} {event.media_id}"[:500],
                "title": event.title,
                "uploader": event.uploader,
                "duration": event.duration,
                "webpage_url": event.webpage_url,
                "size": event.size,
            }
        case DownloadPartFinished():
            return {"message": f"Downloading: {event.part} is there"[:MAX_MESSAGE]}
        case DownloadMerged():
            known = {} if event.duration is None else {"duration": event.duration}
            return {"phase": "merged", "message": "Being put into its place", "size": event.size, **known}
        case DownloadStored():
            return _stored(event)
    return None


def _stored(event: DownloadStored) -> dict[str, Any]:
    return {"phase": "stored", "message": "; ".join(event.warnings)[:MAX_MESSAGE], "video": event.video,
            "path": event.path, "files": event.files, "size": event.size, "error": None, "until": None}  # fmt: skip


def _parked(event: EntryParked) -> dict[str, Any]:
    message = f"{event.reason.rstrip('.')}. It goes on after `spoolhouse parked replay`, or refresh it."
    return {"phase": "failed", "message": message[:MAX_MESSAGE], "error": PARKED, "until": None}


def _ending(download: Download, event: Any) -> dict[str, Any] | None:
    """What an event changes that ends a take without a new file, or puts it off."""
    match event:
        case DownloadSkipped():
            message = f"It was there already: download {event.number} fetched it"
            return {"phase": "skipped", "message": message, "video": event.video, "path": event.path,
                    "duplicate_of": event.number, "error": None, "until": None}  # fmt: skip
        case DownloadExpanded():
            return _expanded(event)
        case DownloadPostponed():
            at = event.until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
            message = f"{event.reason} (tried again at {at} UTC)" if event.kind != "interrupted" else IN_QUEUE
            failures = download.failures + (event.kind == "retry")
            return {"phase": "postponed", "message": message[:MAX_MESSAGE], "until": event.until, "failures": failures}
        case DownloadFailed():
            message = f"{event.reason} {event.advice}".strip()
            return {"phase": "failed", "message": message[:MAX_MESSAGE], "error": event.kind, "until": None}
        case DownloadCancelled():
            return {"phase": "cancelled", "message": event.reason[:MAX_MESSAGE], "error": "cancelled", "until": None}
    return None


def _refreshed(event: DownloadRefreshed) -> dict[str, Any]:
    return {"phase": "queued", "message": IN_QUEUE, "take": event.take, "attempt": 0, "failures": 0, "until": None,
            "error": None, "duplicate_of": None, "numbers": ()}  # fmt: skip


def _expanded(event: DownloadExpanded) -> dict[str, Any]:
    taken = f"{len(event.numbers)} of {event.entries} entries are queued"
    skipped = f", {len(event.skipped)} were there already" if event.skipped else ""
    more = (
        f"; the limit of {event.limit} entries left the rest out: ask again with a higher limit" if event.more else ""
    )
    return {"phase": "expanded", "message": f"{taken}{skipped}{more}"[:MAX_MESSAGE], "title": event.title,
            "numbers": event.numbers, "error": None, "until": None}  # fmt: skip
