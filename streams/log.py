"""The log: append, read, wait. Everything else stands on this page.

One stream for each partition; an entry's id `<pos>-0` is its position, dense from 1. What writes
is in `appending`, what reads in `reading`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.appending import Appender, initialise
from streams.background import running
from streams.codec import Recorded
from streams.connections import connect, shown, told_plainly
from streams.durability import durability_warnings
from streams.entries import Appended, Entry, Fence, NewEvent, new_event
from streams.errors import LogUnavailableError, SpoolhouseError
from streams.keys import Keys, partition_of
from streams.reading import Reader
from streams.settings import Settings

__all__ = ["Appended", "Entry", "Fence", "Log", "NewEvent", "new_event", "open_log"]

_log = structlog.get_logger(__name__)


class Log:
    """The log as everyone uses it. Made by `open_log`."""

    def __init__(self, redis: Redis, keys: Keys, partitions: int) -> None:
        self.redis, self.keys, self.partitions = redis, keys, partitions
        self._appender = Appender(redis, keys, partitions)
        self.reader = Reader(redis, keys, partitions)

    async def append(self, new: NewEvent, *, timeout: float = 5.0) -> Appended:
        """Append one event and say where it stands.

        Harmless to repeat: the same id again answers with the original's place. Raises
        ConflictError, FencedError, LogFullError, and LogUnavailableError after `timeout` seconds.
        """
        return (await self.append_all([new], timeout=timeout))[0]

    async def append_all(self, news: Sequence[NewEvent], *, timeout: float = 5.0) -> list[Appended]:
        """Append many; events of one subject keep their order. Raises the first refusal.

        What was not refused is appended all the same.
        """
        placed = []
        for one in await self.try_append_all(news, timeout=timeout):
            if isinstance(one, SpoolhouseError):
                raise one
            placed.append(one)
        return placed

    async def try_append_all(
        self, news: Sequence[NewEvent], *, timeout: float = 5.0
    ) -> list[Appended | SpoolhouseError]:
        """Append many; for each where it stands, or why it was refused (conflict, fenced)."""
        if not news:
            return []
        answers = await self._appender.append(news, timeout)
        heads = [0] * self.partitions
        for one in answers:
            if isinstance(one, Appended):
                heads[one.partition] = max(heads[one.partition], one.pos)
        await self.reader.advance(heads)
        return answers

    async def read(self, partition: int, *, after: int = 0, count: int = 1000) -> list[Entry]:
        """Entries of a partition with positions beyond `after`, oldest first, at most `count`."""
        return await self.reader.read(partition, after, count)

    async def heads(self) -> list[int]:
        """The last position of each partition."""
        return await self.reader.heads()

    async def version(self, subject: str) -> int:
        """The subject's version; 0 where nothing was ever written about it."""
        return int((await self.checkpoint(subject)).get("ver", "0"))

    async def versions(self, subjects: Sequence[str]) -> list[int]:
        """The versions of many subjects, in one go for each thousand."""
        found: list[int] = []
        with told_plainly():
            for start in range(0, len(subjects), 1000):
                pipeline = self.redis.pipeline(transaction=False)
                for subject in subjects[start : start + 1000]:
                    pipeline.hget(self.keys.subject(partition_of(subject, self.partitions), subject), "ver")
                found += [int(version or 0) for version in await pipeline.execute()]
        return found

    async def subjects(self, prefix: str) -> list[str]:
        """Every subject whose name begins so. Goes through all keys of this Redis, in small steps."""
        pattern = self.keys.subject(0, prefix).replace("{00}", "{*}") + "*"
        with told_plainly():
            keys = [key.decode("utf-8", "surrogateescape") async for key in self.redis.scan_iter(pattern, count=1000)]
        return sorted({key.partition(":subject:")[2] for key in keys})

    async def checkpoint(self, subject: str) -> dict[str, str]:
        """The subject's hash: `ver`, and the checkpoint fields that its events set."""
        with told_plainly():
            stored: Any = await self.redis.hgetall(self.keys.subject(partition_of(subject, self.partitions), subject))
        return {name.decode(): value.decode("utf-8", "replace") for name, value in stored.items()}

    async def history(self, subject: str) -> list[Recorded[Any]]:
        """All events of a subject, in order."""
        return await self.reader.history(subject)

    async def wait_for(
        self, subject: str, types: Collection[str], *, after: int = 0, timeout: float
    ) -> Recorded[Any] | None:
        """The subject's first event of these types with a version beyond `after`.

        It may be there already. None when `timeout` seconds are over.
        """
        return await self.reader.wait_for(subject, types, after, timeout)

    async def wait_beyond(self, positions: Sequence[int], *, timeout: float) -> None:
        """Return once some partition p has entries beyond `positions[p]`, or after `timeout` seconds.

        Never raises for a log that cannot be reached: it just takes until the timeout.
        """
        await self.reader.wait_beyond(positions, timeout)

    async def is_ours(self, entry: Entry) -> bool:
        """Whether the append script wrote this entry (and not a person with redis-cli)."""
        subject, eid = entry.fields.get(b"subject"), entry.fields.get(b"id")
        if subject is None or eid is None:
            return False
        key = self.keys.seen(entry.partition, subject.decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )
        with told_plainly():
            place = await self.redis.hget(key, eid)
        return place is not None and int(place.split()[0]) == entry.pos

    async def mirror(self, group: str, positions: Sequence[int]) -> None:
        """Show a follower's positions as a consumer group, so that `XINFO GROUPS` tells its lag."""
        with told_plainly():
            pipeline = self.redis.pipeline(transaction=False)
            for partition, pos in enumerate(positions):
                key = self.keys.log(partition)
                pipeline.execute_command("XGROUP CREATE", key, group, f"{pos}-0", "MKSTREAM")
                pipeline.execute_command("XGROUP SETID", key, group, f"{pos}-0", "ENTRIESREAD", pos)
            answers = await pipeline.execute(raise_on_error=False)
            if any(isinstance(answer, ResponseError) for answer in answers[1::2]):  # before Redis 7.0
                pipeline = self.redis.pipeline(transaction=False)
                for partition, pos in enumerate(positions):
                    pipeline.execute_command("XGROUP SETID", self.keys.log(partition), group, f"{pos}-0")
                await pipeline.execute(raise_on_error=False)

    async def epoch(self) -> int:
        """How often this log was found to have lost its tail, plus one."""
        with told_plainly():
            stored = await self.redis.hget(self.keys.meta(0), "epoch")
        return int(stored or 1)

    async def raise_epoch(self, epoch: int) -> None:
        """Set the epoch of every partition. Part of the gate; see `gate`."""
        with told_plainly():
            for partition in range(self.partitions):
                await self.redis.hset(self.keys.meta(partition), "epoch", str(epoch))
        self.reader.forget()

    async def ping(self, timeout: float = 1.0) -> bool:
        """Whether Redis answers within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                with told_plainly():
                    await self.redis.ping()
        except (TimeoutError, LogUnavailableError):
            return False
        return True

    async def prepare(self) -> list[str]:
        """Create the log where there is none, check what is there, and say what is not durable.

        Raises PartitionCountError for a log with another number of partitions.
        """
        await initialise(self.redis, self.keys, self.partitions)
        return await durability_warnings(self.redis)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the writer and the follower beside the body."""
        async with running(self._appender.run(), self.reader.run()):
            yield


@asynccontextmanager
async def open_log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """The log at `redis_url`, running until the body ends.

    Opens with Redis down, too: uploads are taken then, and everything else waits. Raises
    PartitionCountError where the log was created with another number of partitions.
    """
    redis = connect(redis_url)
    try:
        log = Log(redis, Keys(settings.namespace), settings.partitions)
        try:
            async with asyncio.timeout(5):
                for warning in await log.prepare():
                    _log.warning("log is not durable", redis=shown(redis_url), finding=warning)
        except (TimeoutError, LogUnavailableError) as error:
            _log.warning("log cannot be reached yet", redis=shown(redis_url), error=str(error))
        async with log.running():
            yield log
    finally:
        await redis.aclose()
