"""Acknowledgements of one group member: gathered, and sent in batches.

Whatever is done while one round trip is under way goes with the next, so a busy member sends few
large XACKs and a quiet one sends each at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.background import stop_if_cancelled
from streams.connections import UNREACHABLE, told_plainly
from streams.crashpoints import reach
from streams.errors import LogUnavailableError
from streams.keys import Keys

COALESCE = 0.01
"""Seconds between two batches of a busy member: many small ones cost both sides more than they tell."""

BATCH = 1000
"""Entries that one XACK names at the most."""

_log = structlog.get_logger(__name__)


class Flying(Protocol):
    """A partition with entries in flight."""

    @property
    def partition(self) -> int:
        """Its number."""
        ...

    def landed(self, positions: Iterable[int]) -> None:
        """These entries are acknowledged."""
        ...


class Acknowledgements:
    """What is done and not yet told to Redis."""

    def __init__(self, redis: Redis, keys: Keys, group: str) -> None:
        self._redis, self._keys, self._group = redis, keys, group
        self._done: dict[Flying, list[int]] = {}
        self._some = asyncio.Event()
        self._sending = asyncio.Lock()

    def add(self, owned: Flying, pos: int) -> None:
        """Note that an entry is done."""
        done = self._done.get(owned)
        if done is None:
            self._done[owned] = [pos]
            self._some.set()
        else:
            done.append(pos)

    def forget(self, owned: Flying) -> None:
        """Do not tell what was done in a partition: its positions mean other entries by now."""
        self._done.pop(owned, None)

    async def run(self) -> None:
        """Tell Redis what is done, for ever."""
        while True:
            stop_if_cancelled()
            await self._some.wait()
            try:
                await self.flush()
            except LogUnavailableError:
                await asyncio.sleep(0.2)
            else:
                await asyncio.sleep(COALESCE)

    async def flush(self) -> None:
        """Acknowledge all that is done; when it returns, Redis knows. Raises LogUnavailableError: nothing is lost."""
        async with self._sending:  # a batch that is under way belongs to "all", too
            await self._send()

    async def _send(self) -> None:
        done, self._done = self._done, {}
        self._some.clear()
        if not done:
            return
        try:
            reach("ack.before")
            with told_plainly():
                pipeline = self._redis.pipeline(transaction=False)
                for owned, positions in done.items():
                    for start in range(0, len(positions), BATCH):
                        ids = [b"%d-0" % pos for pos in positions[start : start + BATCH]]
                        pipeline.execute_command("XACK", self._keys.log(owned.partition), self._group, *ids)
                answers = await pipeline.execute(raise_on_error=False)
                for answer in answers:
                    if isinstance(answer, UNREACHABLE):  # still loading its data, or a replica by now
                        raise answer
            reach("ack.after")
        except BaseException:
            for owned, positions in done.items():
                self._done[owned] = positions + self._done.get(owned, [])
            self._some.set()
            raise
        refused = [answer for answer in answers if isinstance(answer, ResponseError)]
        if refused:
            _log.warning("acknowledgements were refused", group=self._group, error=str(refused[0]))
        for owned, positions in done.items():
            owned.landed(positions)
