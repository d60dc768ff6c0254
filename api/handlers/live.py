"""`WS /ws/{client_id}`: every change in the work on a client's files, as it happens."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from api.draining import DRAINING
from api.formats import refusal
from api.guards import check_origin
from api.listeners import Listener
from api.live import LIVE
from api.openapi.describing import Answer, documented
from api.parameters import Choice, Parameters
from api.services import SERVICES
from processors.uploads import check_client

_log = structlog.get_logger(__name__)

HEARTBEAT = 20.0
"""Seconds between two pings; a peer that does not answer within half of that is gone."""

MAX_INCOMING = 4096
"""Bytes of a message from a client."""

CLOSE_WITHIN = 1.0
"""Seconds that a peer has to take and answer our close."""

_REASONS: dict[int, bytes] = {
    WSCloseCode.GOING_AWAY: b"Spoolhouse is stopping",
    WSCloseCode.TRY_AGAIN_LATER: b"too much waits to be read: connect again for the current state",
    WSCloseCode.SERVICE_RESTART: b"the log was restored: connect again for the current state",
    WSCloseCode.INTERNAL_ERROR: b"something went wrong here: connect again",
}


ALL = Choice("all", "`1`: what happens to everyone's files and downloads.", ("0", "1"), "0")


@documented(
    "Media",
    {101: Answer("The connection is a WebSocket from here on.")},
    refuses=(400, 403, 426),
    path={"client_id": "What was given with the uploads, or with the downloads."},
    query=(ALL,),
    websocket=True,
)
async def watch(request: web.Request) -> web.StreamResponse:
    """A WebSocket: first how the client's files and downloads stand, then each change.

    Messages about files are JSON: `type` (`status` or `progress`), `file_id`, `filename`, `task` (`video-enhancement`,
    `metadata-extraction`, `previews`), `status` (`queued`, `processing`, `completed`, `failed`), `progress`
    (percent), `message`, `error` and `time`. A slow reader loses messages of type `progress`, never any of type
    `status`.

    Messages about downloads have the `type` `download` and the fields of the object that `GET /videos/{id}` shows,
    with `kind` (`video`, `list`) in place of its `type`, and `deleted`: one for each change, and at most two a second
    while `progress` moves. A client hears of those that were asked for with its `client_id`.

    What a client says is overlooked, but `ping` is answered with `{"type": "pong"}`. Pages from
    elsewhere are refused (SPOOLHOUSE_WS_ORIGINS).
    """
    client_id = request.match_info["client_id"]
    check_client(client_id)
    everyone = Parameters(request.query, (ALL,))[ALL] == "1"
    check_origin(request, request.app[SERVICES].settings.ws_origins)
    # Compressing short messages costs each connection 300 KB and saves nothing.
    ws = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_INCOMING, timeout=CLOSE_WITHIN, compress=False)
    if not ws.can_prepare(request):
        answer = refusal(426, "This is a WebSocket: open it with one, e.g. new WebSocket('ws://…/ws/me').")
        answer.headers["Upgrade"] = "websocket"
        return answer
    with request.app[LIVE].listening(client_id, everyone=everyone) as listener:
        await ws.prepare(request)
        code = WSCloseCode.INTERNAL_ERROR
        try:
            code = await _serve(request, ws, listener)
        except Exception:  # noqa: BLE001 - the answer has begun: all that is left is to close it
            _log.exception("WebSocket failed")
        finally:
            await _close(request, ws, code)
    return ws


async def _serve(request: web.Request, ws: web.WebSocketResponse, listener: Listener) -> WSCloseCode:
    """Until the client goes, we do, or too much waits; why."""
    asked = asyncio.create_task(request.app[DRAINING].asked.wait())
    told = asyncio.create_task(request.app[LIVE].tell_state(listener))
    ends: list[asyncio.Future[Any]] = [
        asked,
        asyncio.create_task(_receive(ws, listener)),
        asyncio.create_task(_send(ws, listener)),
    ]
    told.add_done_callback(lambda task: _failed(task, listener))
    try:
        done, _ = await asyncio.wait([listener.over, *ends], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (told, *ends):
            task.cancel()
        await asyncio.gather(told, *ends, return_exceptions=True)
    if listener.over in done:
        return listener.over.result()
    if asked in done:
        return WSCloseCode.GOING_AWAY
    return WSCloseCode.OK


def _failed(task: asyncio.Task[None], listener: Listener) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("state cannot be told", error=repr(error), exc_info=error)
        listener.end(WSCloseCode.INTERNAL_ERROR)


async def _receive(ws: web.WebSocketResponse, listener: Listener) -> None:
    """Until the client closes, breaks off, or says too much."""
    async for message in ws:
        if message.type is WSMsgType.TEXT and message.data.strip().lower() in {"ping", '{"type":"ping"}'}:
            listener.pong()


async def _send(ws: web.WebSocketResponse, listener: Listener) -> None:
    """For ever: what waits, as fast as the client takes it."""
    with suppress(ConnectionError):
        while True:
            await ws.send_frame(await listener.next(), WSMsgType.TEXT)


async def _close(request: web.Request, ws: web.WebSocketResponse, code: WSCloseCode) -> None:
    """Say goodbye, within bounds: a peer that does not read is cut off, else its socket would stay."""
    try:
        async with asyncio.timeout(2 * CLOSE_WITHIN):
            await ws.close(code=code, message=_REASONS.get(code, b""))
    except (TimeoutError, ConnectionError, RuntimeError):
        pass
    finally:
        if request.transport is not None and request.transport.get_write_buffer_size():
            request.transport.abort()
