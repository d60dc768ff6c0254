"""`POST /api/upload-video`: a form with a `video` file and, before or after it, a `contentType` text."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web
from aiohttp.http import HttpVersion11

from api.formats import json_answer, megabytes
from api.metrics import METRICS
from api.multipart import Form, Part, open_form
from api.services import SERVICES, Door, Receiving, Stored
from streams.errors import RejectedError
from streams.paths import escape_path

FORM_ROOM = 2**20
"""Bytes that a request may have beyond its file: boundaries, headers, other fields."""

MAX_LABEL = 4096
"""Bytes of the `contentType` text; only the first of them become part of a name."""


async def upload_video(request: web.Request) -> web.Response:
    """Take one video in. 200 once it is durable, whatever else is down.

    Nothing of an upload that is refused or broken off is left behind.
    """
    services, metrics = request.app[SERVICES], request.app[METRICS]
    with metrics.upload() as upload:
        form = open_form(request)
        expected = _announced(request, services.settings.max_upload)
        await _go_ahead(request)
        stored = await _receive(form, services.door, expected)
        upload.stored(stored.event.size)
    return json_answer(
        {
            "success": True,
            "video_id": stored.video,
            "drive_link": None,
            "filename": stored.event.filename,
            "local_backup": escape_path(str(stored.path)),
            "file_size_mb": megabytes(stored.event.size),
            "id": stored.video,
        }
    )


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
