"""Entries that may have killed a worker: their starts are counted, and they are begun one by one.

A start is counted where an entry was delivered before and nobody knows what became of it; the count
is forgotten when it comes to an end, good or bad, or further than before: a long upload that is
killed a hundred times and goes on each time kills nobody. So a worker that dies leaves a count behind,
and what has as many as an event has attempts is parked. Those that were at work beside the deadly one
have counts, too: they are begun one after another, so that it dies alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from streams.errors import LogUnavailableError
from streams.retries import Retries

PROBATION = 10.0
"""Seconds for which a suspect is the only one at work in this process and group."""

BEGUN_KNOWN = 10_000
"""Counted entries that are remembered at the most."""


class Placed(Protocol):
    """Something that stands in the log."""

    @property
    def partition(self) -> int:
        """Its partition."""
        ...

    @property
    def pos(self) -> int:
        """Its position."""
        ...


class Suspects:
    """What is known of the starts of one group's entries in this process."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._begun: set[tuple[int, int]] = set()
        """Entries whose starts we counted, and that we know to be no death of ours."""
        self._probation = asyncio.Lock()

    async def deaths(self, entry: Placed) -> int:
        """How many starts of an entry have no end that anyone knows of."""
        if (entry.partition, entry.pos) in self._begun:
            return 0  # we began it ourselves and are alive
        return await self._retries.starts(entry.partition, entry.pos)

    async def begin(self, entry: Placed) -> None:
        """Count a start."""
        place = (entry.partition, entry.pos)
        if place not in self._begun:
            await self._retries.started_again(*place)
            if len(self._begun) < BEGUN_KNOWN:
                self._begun.add(place)

    async def ended(self, entry: Placed) -> None:
        """It came to an end: nobody died of it."""
        place = (entry.partition, entry.pos)
        if place in self._begun:
            await self._retries.ended(*place)
            self._begun.discard(place)

    async def progressed(self, entry: Placed) -> None:
        """It came further than ever before: deaths until now were not of what it is, and count no more."""
        with contextlib.suppress(LogUnavailableError):
            await self.ended(entry)

    async def stopped(self, entry: Placed) -> None:
        """It was stopped on purpose, which is no death."""
        place = (entry.partition, entry.pos)
        if place in self._begun:
            with contextlib.suppress(LogUnavailableError, asyncio.CancelledError):
                await self._retries.started_again(*place, -1)
                self._begun.discard(place)

    def forget(self, entry: Placed) -> None:
        """Its count is gone from Redis by other means."""
        self._begun.discard((entry.partition, entry.pos))

    @asynccontextmanager
    async def watched(self, deaths: int) -> AsyncIterator[None]:
        """Work on an entry: one that nobody died of at once, a suspect when the one before it has shown itself."""
        if not deaths:
            yield
            return
        await self._probation.acquire()
        loop = asyncio.get_running_loop()
        passed = loop.call_later(PROBATION, self._probation.release)
        try:
            yield
        finally:
            if loop.time() < passed.when():
                passed.cancel()
                self._probation.release()
