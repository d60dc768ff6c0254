"""A topic: one stream for each partition, named like the log's (`orders:{03}:log`)."""

from __future__ import annotations

import asyncio
import re
import time
import zlib

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.connections import told_plainly
from streams.errors import LogUnavailableError
from streams.faust.refusals import refuse
from streams.keys import Keys
from streams.reading import Reader
from streams.scripts import Script

PARTITIONS = 1024
"""More than these a topic cannot have."""

RETRY = 0.5
"""Seconds between tries to reach Redis."""

_DECLARE = Script("declare")
_NAME = re.compile(r"[A-Za-z0-9._\-]{1,249}")
_log = structlog.get_logger(__name__)


class Topic:
    """A topic as Redis holds it."""

    def __init__(self, redis: Redis, name: str, partitions: int, *, events: bool, reader: Reader | None = None) -> None:
        """`reader`: one that somebody runs already."""
        self.name, self.partitions, self.keys = name, partitions, Keys(name)
        self.events = events
        """It is a log of events: Faust reads it and never writes to it."""
        self.runs_reader = reader is None
        self.reader = reader or Reader(redis, self.keys, partitions)

    def partition_of(self, key: bytes) -> int:
        """Where messages with this key stand, as for everything else in the log."""
        return zlib.crc32(key) % self.partitions


class Topics:
    """The topics that an app uses, by name. The first to declare a topic decides its partitions."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[str, Topic] = {}

    def known(self, name: str) -> Topic | None:
        """A topic that was declared before."""
        return self._known.get(name)

    def add(self, topic: Topic) -> None:
        """Make a topic known that exists."""
        self._known[topic.name] = topic

    async def declare(self, name: str, partitions: int | None, timeout: float) -> Topic:
        """The topic, made with `partitions` where it does not exist (None: refused then).

        Waits for Redis up to `timeout` seconds, then raises LogUnavailableError.
        """
        topic = self._known.get(name)
        if topic is None:
            if not _NAME.fullmatch(name):
                refuse(f"{name!r} is no name for a topic: letters, digits, '.', '_' and '-', 249 at the most")
            if partitions is not None and not 1 <= partitions <= PARTITIONS:
                refuse(f"topic {name!r} cannot have {partitions} partitions: 1 to {PARTITIONS}")
            stored, events = await self._insist(name, partitions, timeout)
            if not stored:
                refuse(f"topic {name!r} does not exist, and topic_allow_declare=False forbids to make it")
            topic = self._known[name] = Topic(self._redis, name, stored, events=bool(events))
            if partitions not in {None, stored}:
                _log.info("topic has its own number of partitions", topic=name, partitions=stored, asked=partitions)
        return topic

    async def _insist(self, name: str, partitions: int | None, timeout: float) -> tuple[int, int]:
        until, told = time.monotonic() + timeout, False
        while True:
            try:
                with told_plainly():
                    stored, events = await _DECLARE(self._redis, [Keys(name).meta(0)], [partitions or ""])
                return int(stored), int(events)
            except (LogUnavailableError, ResponseError) as error:
                if isinstance(error, ResponseError) or time.monotonic() + RETRY > until:
                    raise
                if not told:
                    _log.warning("waiting for Redis", topic=name, error=str(error))
                told = True
                await asyncio.sleep(RETRY)
