"""Bare JSON arrays of any length, sent while they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import structlog
from aiohttp import hdrs, web

from api.formats import json_bytes

_log = structlog.get_logger(__name__)

CHUNK = 64 * 1024
"""Bytes that are sent at once."""


async def stream_array(request: web.Request, rows: AsyncIterator[object]) -> web.StreamResponse:
    """All of them. The first is awaited before anything is promised: what is raised until then is told as an error."""
    row = await anext(rows, None)
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        buffer, first = bytearray(b"["), True
        while row is not None:
            buffer += (b"" if first else b",") + json_bytes(row)
            first = False
            if len(buffer) > CHUNK:
                await response.write(bytes(buffer))
                buffer.clear()
            row = await anext(rows, None)
        await response.write(bytes(buffer + b"]"))
        await response.write_eof()
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was, the client must not take this for the whole list
        # Too late for another status: a connection that breaks says that the list is not whole.
        _log.exception("list broke off")
        if request.transport is not None:
            request.transport.abort()
    return response
