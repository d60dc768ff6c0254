"""The write path: batches of appends, one script call for each partition, pipelined.

While one round trip is under way the next batch gathers, so a busy writer gets large batches and
a quiet one gets none of the delay. A round holds one call for each partition, so whatever is sent
again goes before what came later, and a subject's events keep their order. After a broken
connection nobody knows whether the script ran; the same events are sent again, and the ids make
the repeat harmless.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError

from streams.background import stop_if_cancelled
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
_log = structlog.get_logger(__name__)


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
        may be appended all the same: append them again), ValueError for what cannot be encoded (the
        events some hundred places before it may be appended).
        """
        batches: list[tuple[list[int], _Batch]] = []
        try:
            async with asyncio.timeout(timeout):
                for start in range(0, len(news), BATCH):
                    if start:
                        await asyncio.sleep(0)  # Redis works on the first of them while the rest is encoded
                    made = self._batches(news, range(start, min(start + BATCH, len(news))))
                    batches += made
                    await self._enqueue([batch for _, batch in made])
                answers = await asyncio.gather(*(batch.outcome for _, batch in batches))
        except TimeoutError:
            raise LogUnavailableError(
                f"Redis did not take {len(news)} event(s) within {timeout:g} s. They are safe to append again."
            ) from None
        finally:
            for _, batch in batches:
                batch.outcome.cancel()  # after a refusal the rest is not sent: it must not overtake
        results: list[Appended | SpoolhouseError | None] = [None] * len(news)
        for (indices, _), answer in zip(batches, answers, strict=True):
            for index, one in zip(indices, answer, strict=True):
                results[index] = one
        return [one for one in results if one is not None]

    def _batches(self, news: Sequence[NewEvent], indices: range) -> list[tuple[list[int], _Batch]]:
        """These events by partition, encoded; with each batch the indices of its events."""
        by_partition: dict[int, list[int]] = {}
        for index in indices:
            by_partition.setdefault(partition_of(news[index].subject, self._partitions), []).append(index)
        return [
            (part, _Batch(self._keys, partition, [news[index] for index in part]))
            for partition, part in by_partition.items()
        ]

    async def _enqueue(self, batches: list[_Batch]) -> None:
        async with self._room:
            await self._room.wait_for(lambda: self._count < WAITING)
            self._count += _size(batches)
        self._waiting.extend(batches)
        self._wake.set()

    async def run(self) -> None:
        """Send what gathers, for ever."""
        pause = 0.0
        while True:
            stop_if_cancelled()
            await self._wake.wait()
            self._wake.clear()
            while calls := self._next_round():
                sent = await self._send(calls)
                unsent = [batch for call in calls for batch in call if not batch.outcome.done()]
                self._waiting.extendleft(reversed(unsent))
                await self._make_room(sum(len(batch.events) for call in calls for batch in call) - _size(unsent))
                if sent:
                    pause = 0.0
                else:
                    pause = min(1.0, max(0.05, pause * 2))
                    await asyncio.sleep(random.uniform(pause / 2, pause))
            await self._make_room(0)

    async def _make_room(self, done: int) -> None:
        async with self._room:
            self._count -= done
            self._room.notify_all()

    def _next_round(self) -> list[list[_Batch]]:
        """One call for each partition: the batches that go into it, at most BATCH events.

        What nobody waits for any more is left out.
        """
        calls: dict[int, list[_Batch]] = {}
        full: set[int] = set()
        later: list[_Batch] = []
        for _ in range(len(self._waiting)):
            batch = self._waiting.popleft()
            if batch.outcome.done():
                self._count -= len(batch.events)
                continue
            call = calls.setdefault(batch.partition, [])
            if batch.partition in full or _size(call) + len(batch.events) > BATCH:
                full.add(batch.partition)
                later.append(batch)
                if len(later) > BATCH:
                    break
            else:
                call.append(batch)
        self._waiting.extendleft(reversed(later))
        return list(calls.values())

    async def _send(self, calls: list[list[_Batch]]) -> bool:
        """One pipeline. False where some of it must be tried again."""
        try:
            reach("append.before")
            pipeline = self._redis.pipeline(transaction=False)
            for call in calls:
                keys = [self._keys.log(call[0].partition), self._keys.meta(call[0].partition)]
                arguments: list[Any] = [self._partitions]
                for batch in call:
                    keys += batch.keys
                    arguments += batch.arguments
                pipeline.execute_command("EVALSHA", _APPEND.sha, len(keys), *keys, *arguments)
            answers = await pipeline.execute(raise_on_error=False)
            reach("append.after")
            for call, answer in zip(calls, answers, strict=True):
                self._settle(call, answer)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                await self._redis.script_load(_APPEND.source)
            if any("PARTITIONS none" in str(answer) for answer in answers if isinstance(answer, Exception)):
                await initialise(self._redis, self._keys, self._partitions)
        except (*UNREACHABLE, LogUnavailableError):
            return False
        except Exception as error:  # noqa: BLE001 # whatever it is, those who wait are told, and later appends go on
            _log.exception("appending failed unexpectedly")
            refusal = error if isinstance(error, SpoolhouseError) else _explained(error, self._partitions)
            _refuse([batch for call in calls for batch in call], refusal)
        return all(batch.outcome.done() for call in calls for batch in call)

    def _settle(self, call: list[_Batch], answer: Any) -> None:
        """Tell the waiting what became of their events; leave them undone where a repeat may help."""
        if isinstance(answer, Exception):
            if not (isinstance(answer, (NoScriptError, *UNREACHABLE)) or "PARTITIONS none" in str(answer)):
                _refuse(call, _explained(answer, self._partitions))
            return
        statuses = iter(answer)
        for batch in call:
            results: list[Appended | SpoolhouseError] = []
            for new, (status, pos, ver) in zip(batch.events, statuses, strict=False):
                if status <= 1:
                    results.append(Appended(new.id, batch.partition, pos, ver, status == 1))
                elif status == 2:
                    results.append(ConflictError(new.subject, new.expected or 0, ver))
                else:
                    results.append(FencedError(f"the lease {new.fence and new.fence.value!r} is no longer held"))
            if not batch.outcome.done():
                batch.outcome.set_result(results)


def _size(batches: Sequence[_Batch]) -> int:
    return sum(len(batch.events) for batch in batches)


def _refuse(batches: Sequence[_Batch], why: SpoolhouseError) -> None:
    for batch in batches:
        if not batch.outcome.done():
            batch.outcome.set_exception(why)


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
        return PartitionCountError(_other_count(int(text.rsplit(maxsplit=1)[-1]), partitions))
    if "POSITION" in text:
        return LogUnavailableError(
            "an entry with too large an id was put in by hand, and nothing can stand behind it: remove it (XDEL) "
            f"and set the log's last id back to the last good one (XSETID). Redis says: {text}"
        )
    if isinstance(error, OutOfMemoryError) or "OOM" in text:
        return LogFullError("Redis is at its maxmemory and takes no more events: raise maxmemory or free memory.")
    return LogUnavailableError(f"Redis refused an append: {text}")


def _other_count(stored: int, wanted: int) -> str:
    return (
        f"the log was created with {stored} partitions and SPOOLHOUSE_PARTITIONS says {wanted}. The number is fixed "
        f"for the life of a log: set SPOOLHOUSE_PARTITIONS={stored}, or point to another Redis or namespace."
    )
