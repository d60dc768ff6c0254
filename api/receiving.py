"""An upload's form on its way in: the file, whatever fields the route knows, and what it may cost."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http import HttpVersion11

from api.metrics import METRICS
from api.multipart import Form, Part, open_form
from api.services import SERVICES, Door, Receiving, Stored
from streams.errors import RejectedError

FORM_ROOM = 2**20
"""Bytes that a request may have beyond its file: boundaries, headers, other fields."""

MAX_LABEL = 4096
"""Bytes of the `contentType` text; only the first of them become part of a name."""

MAX_CLIENT = 512
"""Bytes of the `client_id` text: 128 characters, whichever they are."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a route calls the parts of its form."""

    file: str
    label: str | None = None
    """The text that becomes part of the stored name."""
    client: str | None = None
    """The text that says who wants to hear of it."""
    enhance: bool = False
    """Whoever sends it here wants a rendition that every browser plays."""


async def receive(request: web.Request, fields: Fields) -> Stored:
    """Take one video in: durable on return, whatever else is down.

    Nothing of an upload that is refused or broken off is left behind. Raises RejectedError, BrokenOffError.
    """
    services, metrics = request.app[SERVICES], request.app[METRICS]
    with metrics.upload() as upload:
        form = open_form(request)
        expected = _announced(request, services.settings.max_upload)
        await _go_ahead(request)
        stored = await _receive(form, services.door, fields, expected)
        upload.stored(stored.event.size)
    return stored


async def defer_continue(request: web.Request) -> None:
    """Leave `Expect: 100-continue` unanswered until the upload has been looked at: see `_go_ahead`."""


async def _receive(form: Form, door: Door, fields: Fields, expected: int | None) -> Stored:
    label, client, other = "", None, 0
    receiving: Receiving | None = None
    async with AsyncExitStack() as stack:
        async for part in form.parts():
            if part.name == fields.file and part.filename:
                if receiving is not None:
                    raise RejectedError(400, "Send one video with each request.")
                receiving = await stack.enter_async_context(
                    door.receive(
                        part.filename,
                        mime=part.mime,
                        client_id=client,
                        expected_size=expected,
                        enhance=fields.enhance,
                    )
                )
                async for chunk in part.chunks():
                    await receiving.write(chunk)
            elif part.name == fields.label:
                label = (await part.text(MAX_LABEL)).strip()
            elif part.name == fields.client:
                client = await part.text(MAX_CLIENT) or None  # what a form sends for a field that was left empty
            else:
                other = await _skip(part, other, fields.file)
        if receiving is None:
            raise RejectedError(400, f"No `{fields.file}` part with a file in it: curl -F {fields.file}=@clip.mp4 URL")
        return await receiving.finish(label=label, client_id=client)


async def _skip(part: Part, so_far: int, file: str) -> int:
    """Overlook a part that no one asked for, within bounds."""
    async for chunk in part.chunks():
        so_far += len(chunk)
        if so_far > FORM_ROOM:
            raise RejectedError(413, f"The form holds more than {FORM_ROOM} bytes besides its `{file}` file.")
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
