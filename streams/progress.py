"""Live progress: percent and frames, by Redis pub/sub. It is no history: who does not listen misses it, and that is fine.

Statuses are events; what is between them (a bar that moves) goes this way. Publishing never fails and never
waits long: the work must not suffer from what only moves a bar.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.connections import UNREACHABLE
from streams.keys import Keys

_log = structlog.get_logger(__name__)

EVERY = 0.5
"""Seconds between two messages about one piece of work, at the least."""

WITHIN = 1.0
"""Seconds that a message may take."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one piece of work is."""

    video: str
    """The subject: a video's id, or `download:<number>`."""
    task: str
    """`video-enhancement` …; `download`."""
    percent: float
    """0 to 100; 0 where the end is not known."""
    message: str
    """For people: `312 of 1440 frames`."""
    details: Mapping[str, Any] | None = None
    """Of a download: `bytes`, `total`, `speed` (bytes a second), `eta` (seconds); each may be None."""


class Publisher:
    """Tells whoever listens how far work is."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._channel = redis, keys.progress()
        self._next: dict[tuple[str, str], float] = {}

    async def tell(self, progress: Progress) -> None:
        """Publish, unless that work was told of just now. Never raises."""
        key, now = (progress.video, progress.task), time.monotonic()
        if now < self._next.get(key, 0.0):
            return
        if len(self._next) > 1000:
            self._next = {one: at for one, at in self._next.items() if at > now}
        self._next[key] = now + EVERY
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(WITHIN):
                await self._redis.publish(self._channel, orjson.dumps(asdict(progress)))


async def follow(redis: Redis, keys: Keys) -> AsyncIterator[Progress]:
    """What is told from now on, for ever; while Redis cannot be reached, nothing."""
    pause = 0.2
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as listening:
                await listening.subscribe(keys.progress())
                pause = 0.2
                while True:
                    message = await listening.get_message(timeout=1.0)
                    if message is not None and (progress := _read(message["data"])) is not None:
                        yield progress
        except UNREACHABLE:
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)


def _read(data: bytes) -> Progress | None:
    try:
        return Progress(**orjson.loads(data))
    except (ValueError, TypeError):
        _log.warning("a progress message cannot be read", data=data[:200])
        return None
