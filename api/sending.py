"""Sends part of a file: by sendfile, at the reader's pace, and never a byte that is not what was promised.

aiohttp's own `FileResponse` is not used. It makes its entity tag from the file's date, so that the
same rendition, restored, would be another; it takes an `If-Range` with an entity tag for none, and
several ranges for an error; under uvloop, which has no sendfile, it falls back to threads and
copies; and a file that becomes shorter on the way leaves the client waiting for the rest.
"""

from __future__ import annotations

import asyncio
import os

import structlog
from aiohttp import web

from api.opening import OpenFile, Reader
from api.ranges import Span
from streams.errors import DependencyDownError

_log = structlog.get_logger(__name__)

SMALL = 128 * 1024
"""Bytes that are read and sent together with the headers: what players ask for when they look around."""

SLICE = 2**18
"""Bytes that are handed to the kernel at once, before others get their turn."""

WINDOW = 2**20
"""Bytes of which it is asked at once whether the disk must be waited for."""

PIECE = 16 * 1024
"""Bytes that wait in our memory for a reader whose socket is full."""

STALLED = 300.0
"""Seconds that a reader may take nothing. A player that is paused for longer asks again where it stopped."""


class FileChangedError(Exception):
    """Somebody wrote into the file, or cut it, while it was being sent."""


async def send(
    request: web.Request, status: int, headers: dict[str, str], file: OpenFile, span: Span, reader: Reader
) -> web.StreamResponse:
    """Answer with these bytes of the file (or, to a HEAD, with the headers that they would have).

    When they cannot be sent as promised the connection is broken, which is the one way left to say so.
    Raises ConnectionError when the client goes away, DependencyDownError before anything was sent.
    """
    if request.method != "HEAD" and span.length <= SMALL:
        body = await reader.fetch(file, span.start, span.length)
        if len(body) == span.length and file.unchanged:
            return web.Response(body=body, status=status, headers=headers)
        raise DependencyDownError("its file", "it was replaced at this very moment. Ask again.", unreachable=False)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = span.length
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    # With no room in our own buffer, draining it means that all of it is with the kernel: only then may
    # we write into the socket past it.
    transport.set_write_buffer_limits(high=0)
    try:
        await _stream(request, response, transport, file, span, reader)
    except (ConnectionError, asyncio.CancelledError):
        transport.abort()  # closing it would first send what it holds, and the reader may not take that
        raise
    except TimeoutError:
        _log.info("stream ended: its reader took nothing", seconds=STALLED, path=request.path)
        transport.abort()
    except (OSError, FileChangedError, DependencyDownError) as error:
        _log.warning("stream broken off: its file cannot be read as it was", path=request.path, error=str(error))
        transport.abort()
    finally:
        if not transport.is_closing():
            transport.set_write_buffer_limits()
    return response


async def _stream(
    request: web.Request,
    response: web.StreamResponse,
    transport: asyncio.Transport,
    file: OpenFile,
    span: Span,
    reader: Reader,
) -> None:
    writer = await response.prepare(request)
    assert writer is not None
    async with asyncio.timeout(STALLED):
        await writer.drain()
    secret = transport.get_extra_info("sslcontext") is not None
    place = at_hand = span.start
    while place < span.stop:
        if place >= at_hand:
            at_hand = min(place + WINDOW, span.stop)
            await reader.bring(file, place, at_hand - place)
        count = min(SLICE, at_hand - place)
        async with reader.turn:
            if not file.unchanged:
                raise FileChangedError("it was written to")
            sent = 0 if secret else _push(transport, file, place, count)
            place += sent
            if sent == count:
                await asyncio.sleep(0)  # nobody else's slice in this round of the loop
                continue
        # The socket is full. The transport waits for it, with a piece of its own to send.
        piece = file.read(place, min(PIECE, at_hand - place))
        if not piece:
            raise FileChangedError("it has become shorter")
        place += len(piece)
        async with asyncio.timeout(STALLED):
            await writer.write(piece)
            await writer.drain()


def _push(transport: asyncio.Transport, file: OpenFile, place: int, count: int) -> int:
    """Hand bytes to the kernel until the socket is full; how many it took.

    The descriptor is the transport's: between looking whether it is closing and sending nobody else
    gets to run, so it is still that socket.
    """
    if transport.is_closing():
        raise ConnectionResetError("the client went away")
    try:
        return os.sendfile(transport.get_extra_info("socket").fileno(), file.descriptor, place, count)
    except BlockingIOError:
        return 0
