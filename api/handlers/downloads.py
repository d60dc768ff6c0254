"""`/videos`: what is downloaded from URLs. These list downloads only; the catalogue of everything is `/api/videos`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args

from aiohttp import web

from api.arrays import stream_array
from api.bodies import fields_of
from api.download_objects import as_download
from api.download_shapes import (
    AttributedDownloadWish,
    AttributedStatusWish,
    DownloadFields,
    DownloadWish,
    ShownDownload,
    StatusWish,
)
from api.download_standings import DOWNLOAD_STANDINGS
from api.formats import json_answer
from api.openapi.describing import Answer, Body, documented
from api.parameters import Choice, Integer, Parameters
from api.percentages import PERCENTAGES
from api.services import SERVICES
from streams.download_config import DownloadOptions
from streams.downloads import Download, DownloadStatus
from streams.errors import NotFoundError, RejectedError
from streams.identity import download_subject
from streams.log import Log

TAG = "Downloads"

GONE_WITHIN = 10.0
"""Seconds that whoever deletes waits for the files to be gone."""

MOST = 2**62

STATUS = Choice(
    "status", "Only what stands so; in any letter case.", ("all", *get_args(DownloadStatus)), "all", any_case=True
)
AFTER = Integer("after", "Only what came after this id.", 0, MOST)
LIMIT = Integer("limit", "So many at the most; all of them without it.", 1, 10_000)
KEEP_FILE = Choice("keep_file", "`1`: its file stays where it lies.", ("0", "1"), "0")

OPTIONS = frozenset(DownloadOptions.model_fields)
REQUEST = frozenset({"url", "directory", "client_id", "vid_url", "vid_dir"}) | OPTIONS
OBJECT = frozenset(DownloadFields.__annotations__)

ID = {"id": "The download's id: a whole number."}

EXAMPLE: ShownDownload = {
    "type": "video",
    "id": 1,
    "vid_url": "https://example.org/watch/7GFmAdRW_98",
    "title": "",
    "status": "Pending",
    "status_message": "In-Queue",
    "vid_dir": "/",
    "file_path": None,
    "video_id": None,
    "uploader": None,
    "duration": None,
    "size": None,
    "progress": {"percent": 0.0, "bytes": None, "total": None, "speed": None, "eta": None},
    "attempt": 0,
    "retry_at": None,
    "error": None,
    "parent": None,
    "entries": [],
    "subscription": None,
    "duplicate_of": None,
    "client_id": None,
    "options": {},
    "created_at": "2024-11-12T14:30:52+01:00",
    "updated_at": "2024-11-12T14:30:52+01:00",
}


def number_in(request: web.Request, what: str = "download") -> int:
    """The number in the path. Raises NotFoundError for what is none."""
    given = request.match_info["id"]
    if not (given.isascii() and given.isdigit()) or len(given) > 18:
        raise NotFoundError(f"There is no {what} {given[:50]!r}: an id is a whole number.")
    return int(given)


@documented(
    TAG,
    {200: Answer("It is queued, and kept for good.", ShownDownload, example=EXAMPLE)},
    refuses=(400, 413, 415, 503, 507),
    body=Body(
        "What is to be fetched: flat, or under `attributes`.",
        DownloadWish | AttributedDownloadWish,
        example={"type": "video", "attributes": {"url": "https://example.org/watch/7GFmAdRW_98", "directory": ""}},
    ),
)
async def add_download(request: web.Request) -> web.Response:
    """Queue a URL for download.

    Downloads are fetched in the order in which they came. Where the log cannot be reached, nothing was taken (503).
    A playlist or channel becomes one download for the list and one for each entry. Every path here is also there
    as `/video…`, and in any letter case.
    """
    fields = await fields_of(request, REQUEST, kind="video")
    url = _text(fields, "url", "vid_url")
    if not url:
        raise RejectedError(400, "`url` is missing: say what is to be fetched.")
    options = {name: fields[name] for name in OPTIONS & set(fields) if fields[name] is not None}
    download = await request.app[SERVICES].downloads.request(
        url, _text(fields, "directory", "vid_dir"), options, _text(fields, "client_id") or None
    )
    request.app[DOWNLOAD_STANDINGS].told(download)
    return _answer(request, download)


@documented(
    TAG,
    {200: Answer("The list.", list[ShownDownload], example=[EXAMPLE])},
    refuses=(503,),
    query=(STATUS, AFTER, LIMIT),
)
async def list_downloads(request: web.Request) -> web.StreamResponse:
    """List downloads, oldest first.

    A bare array. `?after=<id>&limit=` shows the list page by page. The catalogue of everything is `/api/videos`.
    """
    asked = Parameters(request.query, (STATUS, AFTER, LIMIT))
    status: DownloadStatus | None = next((one for one in get_args(DownloadStatus) if one == asked[STATUS]), None)
    found = request.app[DOWNLOAD_STANDINGS].listed(status, after=asked[AFTER] or 0, limit=asked[LIMIT])

    async def rows() -> AsyncIterator[ShownDownload]:
        async for download in found:
            yield as_download(download, request.app[PERCENTAGES])

    return await stream_array(request, rows())


@documented(TAG, {200: Answer("The download.", ShownDownload, example=EXAMPLE)}, refuses=(404, 503), path=ID)
async def show_download(request: web.Request) -> web.Response:
    """Show one download."""
    return _answer(request, await request.app[DOWNLOAD_STANDINGS].of(number_in(request)))


@documented(
    TAG,
    {200: Answer("It as it stands now.", ShownDownload, example=EXAMPLE)},
    refuses=(400, 404, 409, 413, 415, 503),
    path=ID,
    body=Body(
        "What is to become of it: flat, or under `attributes`.",
        StatusWish | AttributedStatusWish,
        example={"status": "refresh"},
    ),
)
async def change_download(request: web.Request) -> web.Response:
    """Queue a download again, or cancel it.

    `refresh` queues it again under its id, behind what waits with a lower one; what was fetched before is replaced.
    `cancel` stops it within seconds; of a list, everything of it that is still to be done. 409 where that cannot be:
    what is under way cannot be refreshed, what is over cannot be cancelled.
    """
    number = number_in(request)
    fields = await fields_of(request, {"status"}, kind="video", overlooked=OBJECT)
    wanted = fields.get("status")
    queue = request.app[SERVICES].downloads
    match wanted.strip().lower() if isinstance(wanted, str) else None:
        case "refresh":
            download = await queue.refresh(number)
        case "cancel":
            download = await queue.cancel(number)
        case _:
            raise RejectedError(400, f"`status` must be 'refresh' or 'cancel', not {str(wanted)[:50]!r}.")
    request.app[DOWNLOAD_STANDINGS].told(download)
    return _answer(request, download)


@documented(
    TAG,
    {
        200: Answer("It is off the list, and its file is gone unless it was to be kept.", ShownDownload),
        202: Answer("It is off the list; its file follows as soon as a worker gets to it.", ShownDownload),
    },
    refuses=(404, 503),
    path=ID,
    query=(KEEP_FILE,),
)
async def delete_download(request: web.Request) -> web.Response:
    """Take a download off the list, with its file.

    What is under way is stopped. `?keep_file=1` leaves the file, and it stays in the catalogue. Answers once the
    file is gone, with the download as it was. Entries of a list are downloads of their own and stay: cancel the list
    first to have no more of them.
    """
    number = number_in(request)
    keep = Parameters(request.query, (KEEP_FILE,))[KEEP_FILE] == "1"
    services, standings = request.app[SERVICES], request.app[DOWNLOAD_STANDINGS]
    before = await standings.of(number)
    after = await services.downloads.delete(number, keep_file=keep)
    standings.told(after)
    gone = keep or (after.path is None and before.status != "Processing")
    gone = gone or await _gone(services.log, before)
    message = "Deleted" if gone else "Deleted; its file follows as soon as a worker gets to it"
    told = replace(before, message=message, path=before.path if keep or not gone else None)
    return json_answer(as_download(told, None), status=200 if gone else 202)


async def _gone(log: Log, before: Download) -> bool:
    """Wait for whoever removes files; False when time is up."""
    subject, after = download_subject(before.number), before.ver
    with suppress(TimeoutError):
        async with asyncio.timeout(GONE_WITHIN):
            while True:
                told = await log.wait_for(subject, ("DownloadFilesRemoved",), after=after, timeout=GONE_WITHIN)
                if told is None or told.event.take == 0:
                    return told is not None
                after = told.ver  # what a newer take had replaced
    return False


def _answer(request: web.Request, download: Download) -> web.Response:
    return json_answer(as_download(download, request.app[PERCENTAGES]))


def _text(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these that is there; empty: none. Raises RejectedError (400)."""
    for name in names:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise RejectedError(400, f"`{name}` must be text.")
        if value:
            return value
    return ""
