"""Sends chunks to an object store, some side by side, and tells of them in their order.

What has arrived but was not told yet would be sent again after a kill. So the window counts from the
oldest chunk that was not told: never more of them are on their way, or arrived behind it, than it is wide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from processors.copies import chunk_key
from processors.ports import ObjectStore
from processors.storage.chunks import Chunk, md5_of
from processors.storage.threads import in_thread
from streams.crashpoints import reach
from streams.errors import DependencyDownError
from streams.events import ChunkUploaded

BEAT = 5.0
"""Seconds between two signs of life while a chunk is under way: the store gives up by itself what does not move."""


class Window:
    """The chunks of one stream that are on their way. Made by `window`."""

    def __init__(self, store: ObjectStore, width: int, beat: Callable[[], None], failed: Callable[[int], None]) -> None:
        self._store, self._width, self._beat, self._failed = store, width, beat, failed
        self._waiting: deque[asyncio.Task[ChunkUploaded]] = deque()
        self.sent = 0
        """Bytes that arrived."""

    @property
    def full(self) -> bool:
        """Whether the oldest must be told before another is sent."""
        return len(self._waiting) >= self._width

    @property
    def empty(self) -> bool:
        """Whether nothing is left to tell."""
        return not self._waiting

    def send(self, chunk: Chunk, event: ChunkUploaded) -> None:
        """Send a chunk; `event` is what to tell of it, but for the ETag."""
        self._begin(self._put(chunk, event))

    def pass_on(self, event: ChunkUploaded) -> None:
        """Tell of a chunk that is there already, in its turn."""
        self._begin(_ready(event))

    async def oldest(self) -> ChunkUploaded:
        """Wait for the oldest chunk; what to tell of it. It stays the oldest until `told`.

        Raises what the store raised, at once where it is down for all of them.
        """
        head = self._waiting[0]
        while not head.done():
            busy = [one for one in self._waiting if not one.done()]
            await asyncio.wait(busy, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
            self._beat()
            for one in self._waiting:
                if one.done() and isinstance(error := one.exception(), DependencyDownError):
                    raise error
        return head.result()

    def told(self) -> None:
        """The oldest is known to the log now."""
        self._waiting.popleft()

    async def settle(self) -> None:
        """Wait until nothing is on its way any more, whatever became of it."""
        while busy := [one for one in self._waiting if not one.done()]:
            await asyncio.wait(busy, timeout=BEAT)
            self._beat()

    async def close(self) -> None:
        """Give up what is on its way."""
        for one in self._waiting:
            one.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, ChunkUploaded]) -> None:
        self._waiting.append(asyncio.create_task(work))

    async def _put(self, chunk: Chunk, event: ChunkUploaded) -> ChunkUploaded:
        md5 = await in_thread(md5_of, chunk.data)
        try:
            key = chunk_key(event.stream_id, event.index)
            reach("replicate.chunk_before")
            etag = await self._store.put(key, chunk.data, sha256=chunk.sha256, md5=md5)
            reach("replicate.chunk_sent")
        except Exception:
            self._failed(event.index)
            raise
        self.sent += len(chunk.data)
        return replace(event, etag=etag)


async def _ready(event: ChunkUploaded) -> ChunkUploaded:
    return event


@asynccontextmanager
async def window(
    store: ObjectStore, width: int, *, beat: Callable[[], None], failed: Callable[[int], None]
) -> AsyncIterator[Window]:
    """A window for one stream, `width` chunks wide; what is on its way when the body ends is given up.

    `failed` is told the index of each chunk that did not arrive.
    """
    made = Window(store, width, beat, failed)
    try:
        yield made
    finally:
        await made.close()
