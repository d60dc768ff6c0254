"""The read path: a partition from any position, a subject's history, and waiting for what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.background import stop_if_cancelled
from streams.codec import Recorded, recorded
from streams.connections import UNREACHABLE, told_plainly
from streams.entries import Entry, entry_fields, position
from streams.errors import LogUnavailableError, UndecodableError
from streams.keys import Keys, partition_of

PIPELINED = 500
"""Commands that one pipeline holds at the most."""

BLOCK = 1.0
"""Seconds that a follower's read blocks; well below the reply timeout."""

RETRY = 0.2
"""Seconds until the next try while the log cannot be reached."""

COALESCE = 0.005
"""Seconds between two looks at a busy log, so that many small appends are one wake-up."""


class Reader:
    """Reads the log. Knows the last positions that anyone here has seen."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int) -> None:
        self._redis, self._keys, self._partitions = redis, keys, partitions
        self._heads = [0] * partitions
        self.breaks = 0
        """How often a connection broke while we followed, or the log was found shorter than it was."""
        self._moved = asyncio.Condition()
        self._followers = 0
        self._followed = asyncio.Event()

    async def read(self, partition: int, after: int, count: int) -> list[Entry]:
        """Entries of a partition beyond a position, oldest first."""
        with told_plainly():
            raw = await self._redis.execute_command(
                "XRANGE", self._keys.log(partition), f"{after + 1}-0", "+", "COUNT", count, NEVER_DECODE=True
            )
        return [Entry(partition, position(entry_id), _mapping(fields)) for entry_id, fields in raw]

    async def heads(self) -> list[int]:
        """The last position of each partition; 0 where nothing was ever appended."""
        with told_plainly():
            pipeline = self._redis.pipeline(transaction=False)
            for partition in range(self._partitions):
                pipeline.execute_command("XINFO STREAM", self._keys.log(partition))
            answers = await pipeline.execute(raise_on_error=False)
            heads = []
            for answer in answers:
                if isinstance(answer, ResponseError) and "no such key" in str(answer):
                    heads.append(0)
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    heads.append(position(answer["last-generated-id"]))
        await self.advance(heads)
        return heads

    async def history(self, subject: str) -> list[Recorded[Any]]:
        """Every event of a subject, in order. Raises UndecodableError for one that cannot be read."""
        partition = partition_of(subject, self._partitions)
        with told_plainly():
            seen = await self._redis.hvals(self._keys.seen(partition, subject))
            positions = sorted(int(value.split()[0]) for value in seen)
            entries: list[Recorded[Any]] = []
            for start in range(0, len(positions), PIPELINED):
                pipeline = self._redis.pipeline(transaction=False)
                for pos in positions[start : start + PIPELINED]:
                    pipeline.execute_command("XRANGE", self._keys.log(partition), f"{pos}-0", f"{pos}-0")
                for found in await pipeline.execute():
                    entries += [recorded(partition, position(eid), _mapping(fields)) for eid, fields in found]
        return entries

    async def wait_for(self, subject: str, types: Collection[str], after: int, timeout: float) -> Recorded[Any] | None:
        """The first event of these types with a version beyond `after`; None when time is up.

        A log that goes away meanwhile is waited for like an event that has not come.
        """
        partition = partition_of(subject, self._partitions)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await self._first(partition, subject, types, after, timeout)
                    except LogUnavailableError:
                        await asyncio.sleep(RETRY)  # it may be back before our time is up
        except TimeoutError:
            return None

    async def _first(
        self, partition: int, subject: str, types: Collection[str], after: int, timeout: float
    ) -> Recorded[Any]:
        """Look at what is there, then at what comes, until it is found."""
        reached = (await self.heads())[partition]
        for event in await self.history(subject):
            if event.ver > after and event.type in types:
                return event
        while True:
            beyond = [2**63] * self._partitions
            beyond[partition] = reached
            await self.wait_beyond(beyond, timeout)
            entries = await self.read(partition, reached, 1000)
            if not entries:
                await asyncio.sleep(RETRY)  # the log is shorter than it was; `run` finds out
            for entry in entries:
                reached = entry.pos
                if entry.fields.get(b"subject") != subject.encode():
                    continue
                try:
                    event = recorded(partition, entry.pos, entry.fields)
                except UndecodableError:
                    continue  # put in by hand: no answer to anyone
                if event.ver > after and event.type in types:
                    return event

    async def wait_beyond(self, positions: Sequence[int], timeout: float) -> None:
        """Return when a partition goes beyond its position here, or after `timeout` seconds."""
        if self._beyond(positions):
            return
        self._followers += 1
        self._followed.set()
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: self._beyond(positions))
        except TimeoutError:
            pass
        finally:
            self._followers -= 1
            if not self._followers:
                self._followed.clear()

    async def advance(self, heads: Sequence[int]) -> None:
        """Take note of last positions; wakes whoever waits for them."""
        if any(new > known for new, known in zip(heads, self._heads, strict=True)):
            self._heads = [max(new, known) for new, known in zip(heads, self._heads, strict=True)]
            async with self._moved:
                self._moved.notify_all()

    def beyond(self, partition: int, pos: int) -> bool:
        """Whether a partition is known to go beyond a position."""
        return self._heads[partition] > pos

    def head(self, partition: int) -> int:
        """The last position of a partition that anyone here has seen."""
        return self._heads[partition]

    def forget(self) -> None:
        """Drop what is known of last positions: the log may have lost its tail."""
        self._heads = [0] * self._partitions

    def _beyond(self, positions: Sequence[int]) -> bool:
        return any(head > pos for head, pos in zip(self._heads, positions, strict=True))

    async def run(self) -> None:
        """Keep the last positions fresh while anyone follows, for ever. Costs nothing otherwise."""
        while True:
            stop_if_cancelled()
            await self._followed.wait()
            try:
                await self._block()
            except (*UNREACHABLE, ResponseError, LogUnavailableError):
                self.breaks += 1
                self.forget()
                await asyncio.sleep(0.2)
            else:
                await asyncio.sleep(COALESCE)

    async def _block(self) -> None:
        """One blocking read across the partitions, then their last positions."""
        heads = await self.heads() if not any(self._heads) else self._heads
        logs = [self._keys.log(partition) for partition in range(self._partitions)]
        news = await self._redis.execute_command(
            "XREAD", "COUNT", 1, "BLOCK", int(BLOCK * 1000), "STREAMS", *logs, *(f"{head}-0" for head in heads)
        )
        known = list(self._heads)
        current = await self.heads()
        if not news and any(now < before for now, before in zip(current, known, strict=True)):
            # The log was emptied or cut under a living connection: what we knew would make followers deaf.
            self._heads = current
            self.breaks += 1


def _mapping(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else entry_fields(fields)
