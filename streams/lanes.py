"""Lanes: many subjects side by side, one subject in order.

Runners take the lane that has waited longest, handle its first item, and put the lane back. A lane
exists only while it has items, a runner only while there is work, and an item costs no more than
its place in a deque: a microsecond or two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a cancelled handler gets to clean up."""

_log = structlog.get_logger(__name__)


class _Running(Generic[T]):
    __slots__ = ("ended", "item", "runner")

    def __init__(self, item: T, runner: asyncio.Task[None]) -> None:
        self.item, self.runner = item, runner
        self.ended: asyncio.Event | None = None


class Lanes(Generic[T]):
    """Handles items of different keys side by side and those of one key one after another."""

    def __init__(self, handle: Callable[[T], Awaitable[None]], *, concurrency: int, limit: int = 2000) -> None:
        """`handle` sorts out its own failures; `limit` is how many items may wait (see `room`)."""
        self._handle, self._concurrency, self._limit = handle, concurrency, limit
        self._lanes: dict[Hashable, deque[T]] = {}
        self._ready: deque[Hashable] = deque()
        self._running: dict[Hashable, _Running[T]] = {}
        self._runners: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        """Runners that have not begun: each will take a lane that is ready."""
        self._space = asyncio.Event()
        self._space.set()
        self._count = 0

    def __len__(self) -> int:
        """Items that wait or run."""
        return self._count

    @property
    def running(self) -> list[T]:
        """The items that are being handled."""
        return [one.item for one in self._running.values()]

    def submit(self, key: Hashable, item: T) -> None:
        """Put an item behind the others of its key. See `room` first."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(item)
        else:
            self._lanes[key] = deque((item,))
            self._ready.append(key)
            self._start_runner()
        self._count += 1
        if self._count >= self._limit:
            self._space.clear()

    async def room(self) -> None:
        """Wait until there is room for more: the back-pressure."""
        await self._space.wait()

    def discard(self, belongs: Callable[[T], bool]) -> list[T]:
        """Take out items that have not begun; answers with them."""
        taken: list[T] = []
        for key, lane in list(self._lanes.items()):
            first = 1 if key in self._running else 0
            waiting = list(lane)[first:]
            kept = [item for item in waiting if not belongs(item)]
            if len(kept) == len(waiting):
                continue
            taken += [item for item in waiting if belongs(item)]
            self._lanes[key] = deque(list(lane)[:first] + kept)
            if not self._lanes[key]:
                del self._lanes[key]
                self._ready.remove(key)
        self._left(len(taken))
        return taken

    async def finish(self, belongs: Callable[[T], bool], timeout: float) -> None:
        """Wait for running items `timeout` seconds at most, then cancel them and give them GRACE to end."""
        concerned = [one for one in self._running.values() if belongs(one.item)]
        for one in concerned:
            one.ended = one.ended or asyncio.Event()
        waits = [asyncio.create_task(one.ended.wait()) for one in concerned if one.ended]
        if not waits:
            return
        try:
            _, late = await asyncio.wait(waits, timeout=timeout)
            if late:
                for one in concerned:
                    if one.ended and not one.ended.is_set():
                        one.runner.cancel()
                _, late = await asyncio.wait(waits, timeout=GRACE)
            if late:
                _log.error("handlers go on although they were cancelled", handlers=len(late))
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self, timeout: float) -> None:
        """Drop what waits, give what runs `timeout` seconds."""
        self.discard(lambda _: True)
        await self.finish(lambda _: True, timeout)
        if self._runners:
            await asyncio.wait(self._runners, timeout=GRACE)

    def _start_runner(self) -> None:
        if len(self._runners) < self._concurrency and len(self._ready) > len(self._starting):
            runner = asyncio.create_task(self._run())
            self._starting.add(runner)
            self._runners.add(runner)
            runner.add_done_callback(self._runner_ended)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        self._starting.discard(runner)
        self._start_runner()

    async def _run(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._starting.discard(me)
        # A handler may swallow the cancellation that was meant for it; the next item must not get it.
        while self._ready and not me.cancelling():
            key = self._ready.popleft()
            item = self._lanes[key][0]
            running = self._running[key] = _Running(item, me)
            try:
                await self._handle(item)
            except Exception:  # noqa: BLE001 # a lane outlives its items
                _log.exception("a lane's handler failed unexpectedly")
            finally:
                self._end(key, running)

    def _end(self, key: Hashable, running: _Running[T]) -> None:
        del self._running[key]
        lane = self._lanes[key]
        lane.popleft()
        if lane:
            self._ready.append(key)
        else:
            del self._lanes[key]
        self._left(1)
        if running.ended:
            running.ended.set()

    def _left(self, count: int) -> None:
        self._count -= count
        if self._count < self._limit:
            self._space.set()
