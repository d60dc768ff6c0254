"""The write path: batches of appends, one script call for each partition, pipelined.

While one round trip is under way the next batch gathers, so a busy writer gets large batches and
a quiet one gets none of the delay. After a broken connection nobody knows whether the script ran;
the same batch is sent again, and the ids make the repeat harmless.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from streams.connections import UNREACHABLE, told_plainly
from streams.crashpoints import reach
from streams.entries import Appended, NewEvent
from streams.errors import (
    ConflictError,
    FencedError,
    LogFullError,
    LogUnavailableError,
    PartitionCountError,
    SpoolhouseError,
)
from streams.keys import Keys, partition_of
from streams.scripts import Script

BATCH = 512
"""Events that one script call appends at the most: Redis does nothing else meanwhile."""

WAITING = 20_000
"""Events that may wait to be appended; whoever brings more waits first."""

_APPEND = Script("append")


class _Batch:
    """Events of one partition that were handed in together."""

    __slots__ = ("arguments", "events", "keys", "outcome", "partition")

    def __init__(self, keys: Keys, partition: int, events: Sequence[NewEvent]) -> None:
        self.partition, self.events = partition, events
        self.keys: list[str] = []
        self.arguments: list[Any] = []
        meta = keys.meta(partition)
        for new in events:
            lease = keys.lease(partition, new.fence.group) if new.fence else meta
            self.keys += (keys.subject(partition, new.subject), keys.seen(partition, new.subject), lease)
            self.arguments += new.arguments()
        self.outcome: asyncio.Future[list[Appended | SpoolhouseError]] = asyncio.get_running_loop().create_future()


class Appender:
    """Appends events; one for each `Log`. `run` must be running."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int) -> None:
        self._redis, self._keys, self._partitions = redis, keys, partitions
        self._waiting: deque[_Batch] = deque()
        self._count = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Condition()

    async def append(self, news: Sequence[NewEvent], timeout: float) -> list[Appended | SpoolhouseError]:
        """Append events; for each where it stands, or why it was refused.

        Raises LogUnavailableError when Redis could not be reached within `timeout` seconds (some
        may be appended all the same: append them again), ValueError for what cannot be encoded.
        """
        by_partition: dict[int, list[int]] = {}
        for index, new in enumerate(news):
            by_partition.setdefault(partition_of(new.subject, self._partitions), []).append(index)
        batches: list[tuple[list[int], _Batch]] = []
        for partition, indices in by_partition.items():
            for start in range(0, len(indices), BATCH):
                part = indices[start : start + BATCH]
                batches.append((part, _Batch(self._keys, partition, [news[i] for i in part])))
        try:
            async with asyncio.timeout(timeout):
                await self._enqueue([batch for _, batch in batches], len(news))
                answers = await asyncio.gather(*(batch.outcome for _, batch in batches))
        except TimeoutError:
            raise LogUnavailableError(
                f"Redis did not take {len(news)} event(s) within {timeout:g} s. They are safe to append again."
            ) from None
        results: list[Appended | SpoolhouseError | None] = [None] * len(news)
        for (indices, _), answer in zip(batches, answers, strict=True):
            for index, one in zip(indices, answer, strict=True):
                results[index] = one
        return [one for one in results if one is not None]

    async def _enqueue(self, batches: list[_Batch], count: int) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._count < WAITING)
            self._count += count
        self._waiting.extend(batches)
        self._wake.set()

    async def run(self) -> None:
        """Send what gathers, for ever."""
        pause = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while round_ := self._next_round():
                sent = await self._send(round_)
                unsent = [batch for batch in round_ if not batch.outcome.done()]
                self._waiting.extendleft(reversed(unsent))
                done = sum(len(batch.events) for batch in round_) - sum(len(batch.events) for batch in unsent)
                async with self._room:
                    self._count -= done
                    self._room.notify_all()
                if sent:
                    pause = 0.0
                else:
                    pause = min(1.0, max(0.05, pause * 2))
                    await asyncio.sleep(random.uniform(pause / 2, pause))

    def _next_round(self) -> list[_Batch]:
        """The batches for one pipeline: what nobody waits for any more is left out."""
        round_: list[_Batch] = []
        count = 0
        while self._waiting and count < 8 * BATCH:
            batch = self._waiting.popleft()
            if batch.outcome.done():
                self._count -= len(batch.events)
                continue
            round_.append(batch)
            count += len(batch.events)
        return round_

    async def _send(self, batches: list[_Batch]) -> bool:
        """One pipeline. False where it must be tried again."""
        try:
            reach("append.before")
            pipeline = self._redis.pipeline(transaction=False)
            for batch in batches:
                fixed = (self._keys.log(batch.partition), self._keys.meta(batch.partition))
                pipeline.execute_command(
                    "EVALSHA", _APPEND.sha, 2 + len(batch.keys), *fixed, *batch.keys, self._partitions, *batch.arguments
                )
            answers = await pipeline.execute(raise_on_error=False)
            reach("append.after")
            unknown = False
            for batch, answer in zip(batches, answers, strict=True):
                if isinstance(answer, NoScriptError):
                    unknown = True
                elif not batch.outcome.done():
                    self._settle(batch, answer)
            if unknown:
                await self._redis.script_load(_APPEND.source)
                return await self._send([batch for batch in batches if not batch.outcome.done()])
            if any(isinstance(answer, ResponseError) and "PARTITIONS none" in str(answer) for answer in answers):
                await initialise(self._redis, self._keys, self._partitions)
            return all(batch.outcome.done() for batch in batches)
        except (*UNREACHABLE, LogUnavailableError):
            return False
        except Exception as error:
            # Nothing may end the one loop that writes: whoever waits for these events is told.
            for batch in batches:
                if not batch.outcome.done():
                    batch.outcome.set_exception(_explained(error, self._partitions))
            return True

    def _settle(self, batch: _Batch, answer: Any) -> None:
        """Tell the waiting what became of their batch; leave it undone where a repeat may help."""
        if isinstance(answer, Exception):
            if "PARTITIONS none" in str(answer) or isinstance(answer, UNREACHABLE):
                return
            batch.outcome.set_exception(_explained(answer, self._partitions))
            return
        results: list[Appended | SpoolhouseError] = []
        for new, (status, pos, ver) in zip(batch.events, answer, strict=True):
            if status <= 1:
                results.append(Appended(new.id, batch.partition, pos, ver, status == 1))
            elif status == 2:
                results.append(ConflictError(new.subject, new.expected or 0, ver))
            else:
                results.append(FencedError(f"the lease {new.fence and new.fence.value!r} is no longer held"))
        batch.outcome.set_result(results)


async def initialise(redis: Redis, keys: Keys, partitions: int) -> None:
    """Create what a new log needs; leave an old one as it is.

    Raises PartitionCountError where the log has another number of partitions.
    """
    script = Script("initialise")
    with told_plainly():
        for partition in range(partitions):
            answer = await script(redis, [keys.meta(partition)], [partitions])
            stored = int(answer)
            if stored != partitions:
                raise PartitionCountError(_other_count(stored, partitions))


def _explained(error: Exception, partitions: int) -> SpoolhouseError:
    if isinstance(error, SpoolhouseError):
        return error
    text = str(error)
    if "PARTITIONS" in text:
        return PartitionCountError(_other_count(int(text.split()[-1]), partitions))
    if "OOM" in text:
        return LogFullError("Redis is at its maxmemory and takes no more events: raise maxmemory or free memory.")
    return LogUnavailableError(f"Redis refused an append: {text}")


def _other_count(stored: int, wanted: int) -> str:
    return (
        f"the log was created with {stored} partitions and SPOOLHOUSE_PARTITIONS says {wanted}. The number is fixed "
        f"for the life of a log: set SPOOLHOUSE_PARTITIONS={stored}, or point to another Redis or namespace."
    )
