"""`POST /api/upload-video`: a form with a `video` file and, before or after it, a `contentType` text."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from aiohttp import web
from aiohttp.http import HttpVersion11

from api.drive_waiting import DRIVE, Failed, Pending
from api.formats import json_answer, megabytes, refusal
from api.metrics import METRICS
from api.multipart import Form, Part, open_form
from api.openapi.describing import FORM, Answer, Body, documented
from api.services import SERVICES, Door, Receiving, Stored
from api.shapes import DriveRefusal, Uploaded, VideoForm
from streams.errors import RejectedError
from streams.paths import escape_path

FORM_ROOM = 2**20
"""Bytes that a request may have beyond its file: boundaries, headers, other fields."""

MAX_LABEL = 4096
"""Bytes of the `contentType` text; only the first of them become part of a name."""

UPLOADED: Uploaded = {
    "success": True,
    "video_id": "1pQdV9cQn0wJmM6sXo0b7l7kq2o4yJ8fT",
    "drive_link": "https://drive.google.com/file/d/1pQdV9cQn0wJmM6sXo0b7l7kq2o4yJ8fT/view",
    "filename": "Tutorial_video.mp4",
    "local_backup": "/srv/spoolhouse/uploaded_videos/20241112_143052_Tutorial_video.mp4",
    "file_size_mb": 15.5,
    "id": "8f0a4c1e-6a53-4f0e-9a2b-3d1f7a5c9e10",
}


@documented(
    "Uploads",
    {
        200: Answer("It is stored; with Drive configured, its copy is there too.", Uploaded, example=UPLOADED),
        202: Answer("It is stored, and its copy in Drive follows; `status_url` tells.", Uploaded),
        502: Answer("It is stored, and its copy in Drive failed; that is tried again by itself.", DriveRefusal),
    },
    refuses=(400, 408, 413, 415, 417, 507),
    body=Body("One video, and whatever else in any order.", VideoForm, FORM),
)
async def upload_video(request: web.Request) -> web.Response:
    """Take one video in. Without Google Drive: 200 once it is durable, whatever else is down.

    With Drive the answer waits for the copy there: 200 with its link, 502 where it failed, 202 where it
    follows later. Nothing of an upload that is refused or broken off is left behind.
    What is positively no video is refused (415); a damaged one is taken and marked.
    """
    services, metrics = request.app[SERVICES], request.app[METRICS]
    with metrics.upload() as upload:
        form = open_form(request)
        expected = _announced(request, services.settings.max_upload)
        await _go_ahead(request)
        stored = await _receive(form, services.door, expected)
        upload.stored(stored.event.size)
    if not services.settings.drive_configured:
        return json_answer(_told(stored, stored.video, None))
    return await _with_drive(request, stored)


async def _with_drive(request: web.Request, stored: Stored) -> web.Response:
    drive = request.app[METRICS].drive
    status_url = f"/api/videos/{stored.video}"
    follows: Uploaded = {**_told(stored, stored.video, None), "status_url": status_url}
    if not stored.logged:  # the video is safe, and all else follows once Redis is back
        drive.labels("pending").inc()
        return json_answer(follows)
    began = time.monotonic()
    outcome = await request.app[DRIVE].outcome(stored, lambda: request.transport is None)
    match outcome:
        case Failed():
            drive.labels("failed").inc()
            return refusal(
                502,
                f"Failed to upload to Drive: {outcome.reason}",
                local_backup=escape_path(str(stored.path)),
                message="Video saved locally but Drive upload failed. Video is NOT lost.",
                id=stored.video,
                status_url=status_url,
            )
        case Pending():
            drive.labels("pending").inc()
            return json_answer(follows, status=202)
        case _:
            drive.labels("completed").inc()
            request.app[METRICS].drive_seconds.observe(time.monotonic() - began)
            return json_answer(_told(stored, outcome.file_id, outcome.link))


def _told(stored: Stored, video_id: str, link: str | None) -> Uploaded:
    """What scripts read of a video that was taken in."""
    return {
        "success": True,
        "video_id": video_id,
        "drive_link": link,
        "filename": stored.event.filename,
        "local_backup": escape_path(str(stored.path)),
        "file_size_mb": megabytes(stored.event.size),
        "id": stored.video,
    }


async def defer_continue(request: web.Request) -> None:
    """Leave `Expect: 100-continue` unanswered until the upload has been looked at: see `_go_ahead`."""


async def _receive(form: Form, door: Door, expected: int | None) -> Stored:
    label, other = "", 0
    receiving: Receiving | None = None
    async with AsyncExitStack() as stack:
        async for part in form.parts():
            if part.name == "video" and part.filename:
                if receiving is not None:
                    raise RejectedError(400, "Send one video with each request.")
                receiving = await stack.enter_async_context(
                    door.receive(part.filename, mime=part.mime, expected_size=expected)
                )
                async for chunk in part.chunks():
                    await receiving.write(chunk)
            elif part.name == "contentType":
                label = (await part.text(MAX_LABEL)).strip()
            else:
                other = await _skip(part, other)
        if receiving is None:
            raise RejectedError(400, "No `video` part with a file in it: curl -F video=@clip.mp4 URL")
        return await receiving.finish(label=label)


async def _skip(part: Part, so_far: int) -> int:
    """Overlook a part that no one asked for, within bounds."""
    async for chunk in part.chunks():
        so_far += len(chunk)
        if so_far > FORM_ROOM:
            raise RejectedError(413, f"The form holds more than {FORM_ROOM} bytes besides its `video` file.")
    return so_far


def _announced(request: web.Request, limit: int) -> int | None:
    """Bytes that the file will have at the least, by the request's own word."""
    length = request.content_length
    if length is None or "Content-Encoding" in request.headers:
        return None
    if length > limit + FORM_ROOM:
        raise RejectedError(413, f"The file is larger than the {limit} bytes that are allowed (SPOOLHOUSE_MAX_UPLOAD).")
    return max(0, length - FORM_ROOM) or None


async def _go_ahead(request: web.Request) -> None:
    """Tell a client that waits for it (curl does with large files) to send the body."""
    expect = request.headers.get("Expect", "").lower()
    if not expect or request.version < HttpVersion11:
        return
    if expect != "100-continue":
        raise RejectedError(417, f"What is meant by `Expect: {expect}`?")
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
