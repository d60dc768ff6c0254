"""What waits to be sent to one WebSocket: statuses all of them, progress only the newest.

Whoever tells never waits: a client that does not read loses progress first and, once too much waits
for it, its connection. It then gets the current state when it connects again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import WSCloseCode

MAX_WAITING = 10_000
"""Statuses that may wait for one client."""

MAX_MOVING = 1000
"""Pieces of work whose newest progress may wait for one client."""

Key = tuple[str, str]
"""A video and a task."""


@dataclass(frozen=True, slots=True)
class Told:
    """A status as it is sent."""

    key: Key
    ver: int
    """Of the video's subject: of two of one key the higher is newer."""
    message: bytes


class Listener:
    """One client's queue. Statuses that come before it was told how things stand are held back until then."""

    def __init__(self, client_id: str, *, everyone: bool) -> None:
        self.client_id, self.everyone = client_id, everyone
        self.over: asyncio.Future[WSCloseCode] = asyncio.get_running_loop().create_future()
        """Done once nothing more is sent, and why."""
        self._statuses: deque[bytes] = deque()
        self._moving: dict[Key, bytes] = {}
        self._pong = False
        self._held: list[Told] | None = []
        # The versions that it was told of by `state`, which may have been ahead of what `status` tells.
        self._known: dict[Key, int] = {}
        self._settled = False
        self._some = asyncio.Event()

    def state(self, states: Sequence[Told], *, settled: bool) -> None:
        """How things stand, oldest first. `settled`: nothing was missing, it need not be told again."""
        if self.over.done():
            return
        for one in states:
            self._new(one)
        held, self._held = self._held, None
        self._settled = settled
        for one in held or ():
            self.status(one)

    def status(self, told: Told) -> None:
        """A change, in the log's order."""
        if self.over.done():
            return
        if self._held is not None:
            self._held.append(told)
            if len(self._held) > MAX_WAITING:
                self.end(WSCloseCode.TRY_AGAIN_LATER)
        elif self._settled:
            if self._known.get(told.key, -1) < told.ver:
                self._known.pop(told.key, None)
                self._put(told)
        else:
            self._new(told)

    def progress(self, key: Key, message: bytes) -> None:
        """How far a piece of work is: what waits of it is out of date."""
        if self._held is not None or self.over.done():
            return
        self._moving.pop(key, None)
        self._moving[key] = message
        if len(self._moving) > MAX_MOVING:
            del self._moving[next(iter(self._moving))]
        self._some.set()

    def pong(self) -> None:
        """The client asked whether anyone is there."""
        self._pong = True
        self._some.set()

    def end(self, code: WSCloseCode) -> None:
        """Close the connection; what waits is not sent any more."""
        if not self.over.done():
            self.over.set_result(code)
        self._held = None
        self._statuses.clear()
        self._moving.clear()

    async def next(self) -> bytes:
        """What is to be sent next; waits for it."""
        while True:
            if self._statuses:
                return self._statuses.popleft()
            if self._pong:
                self._pong = False
                return PONG
            if self._moving:
                return self._moving.pop(next(iter(self._moving)))
            self._some.clear()
            await self._some.wait()

    def _new(self, told: Told) -> None:
        """Send it unless it, or something newer, was sent; remember that."""
        if self._known.get(told.key, -1) < told.ver:
            self._known[told.key] = told.ver
            self._put(told)

    def _put(self, told: Told) -> None:
        self._moving.pop(told.key, None)
        if len(self._statuses) >= MAX_WAITING or len(self._known) > MAX_WAITING:
            self.end(WSCloseCode.TRY_AGAIN_LATER)
        else:
            self._statuses.append(told.message)
            self._some.set()


PONG = b'{"type":"pong"}'
