"""WebSockets as tests use them, and what processors append."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from streams.entries import new_event
from streams.events import Event
from streams.log import Log
from tests.api.running import Answer, Api

Message = dict[str, Any]


@dataclass
class Watcher:
    """One client; everything that it was told so far."""

    socket: aiohttp.ClientWebSocketResponse
    told: list[Message] = field(default_factory=list)

    async def read(self) -> Message:
        """The next message. Fails where the connection is closed instead."""
        message = await self.socket.receive(timeout=30)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        told: Message = orjson.loads(message.data)
        self.told.append(told)
        return told

    async def until(self, true: Callable[[Message], bool]) -> Message:
        """Read up to a message."""
        while True:
            told = await self.read()
            if true(told):
                return told

    async def until_status(self, status: str, task: str = "video-enhancement") -> Message:
        """Read up to a status of a task."""
        return await self.until(lambda one: (one["type"], one["task"], one["status"]) == ("status", task, status))

    async def closed(self) -> int:
        """Read until it is closed; the code."""
        while True:
            message = await self.socket.receive(timeout=30)
            if message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
                return int(self.socket.close_code or 0)

    def statuses(self, file_id: str) -> list[tuple[str, str]]:
        """Task and status, in the order in which they were told."""
        return [
            (one["task"], one["status"]) for one in self.told if one["type"] == "status" and one["file_id"] == file_id
        ]


@asynccontextmanager
async def watching(api: Api, client: str = "me", **how: Any) -> AsyncIterator[Watcher]:
    """A WebSocket of this client."""
    path = how.pop("path", f"/ws/{client}")
    async with api.session.ws_connect(api.url + path, **how) as socket:
        yield Watcher(socket)


async def send(api: Api, content: bytes | Path, *, client: str | None = "me", client_first: bool = True) -> Answer:
    """`curl -F file=@… -F client_id=… /upload`."""
    form = aiohttp.FormData(quote_fields=False)
    if client is not None and client_first:
        form.add_field("client_id", client)
    body = content if isinstance(content, bytes) else content.read_bytes()
    form.add_field("file", BytesIO(body), filename="Ferien äöü.mp4", content_type="video/mp4")
    if client is not None and not client_first:
        form.add_field("client_id", client)
    return await api.ask("POST", "/upload", data=form)


async def say(log: Log, video: str, *events: Event) -> None:
    """Append what a processor would."""
    for event in events:
        await log.append(new_event(video, event, source="enhance"))
