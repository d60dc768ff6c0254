"""Ending without breaking anything off: what is under way may finish, within bounds.

aiohttp's own shutdown throws away what still arrives of a request's body, so an upload under way
could never end well. We wait for the requests first and let aiohttp end what remains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class Draining:
    """Counts the requests under way in one application."""

    def __init__(self) -> None:
        self.stopping = False
        """Set once the process wants to end: answers then close their connections."""
        self.asked = asyncio.Event()
        """Set at the same moment, for answers that wait for something."""
        self._under_way = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way while the block runs."""
        self._under_way += 1
        self._none.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._none.set()

    async def drained(self, timeout: float) -> int:
        """Wait until nothing is under way, `timeout` seconds at most; how many requests still are."""
        self.stopping = True
        self.asked.set()
        try:
            async with asyncio.timeout(timeout):
                await self._none.wait()
        except TimeoutError:
            pass
        return self._under_way


DRAINING = web.AppKey("draining", Draining)
