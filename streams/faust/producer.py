"""Sends messages: a bounded queue, one flusher, one script call for each partition in a pipeline.

Every message has a number, counted by producer and partition, and Redis remembers the last one: a
batch that is repeated because its reply was lost is not appended twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Mapping
from itertools import count
from typing import Any, NamedTuple

import structlog
from faust.exceptions import ProducerSendError
from faust.transport.producer import Producer as BaseProducer
from faust.transport.producer import ProducerBuffer
from faust.types import TP
from faust.types.tuples import RecordMetadata
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from streams.connections import UNREACHABLE
from streams.faust.messages import to_fields
from streams.faust.refusals import check_topic, refuse
from streams.faust.topics import Topic
from streams.scripts import Script

BATCH = 512
"""Messages that one script call appends at the most."""

BATCH_BYTES = 1 << 20
"""Bytes after which a batch is full."""

WAITING = 10_000
"""Messages that may wait to be sent; whoever brings more waits first."""

REMEMBERED = 86_400
"""Seconds for which Redis remembers what a producer sent: longer than any message is tried."""

_SEND = Script("send")
_log = structlog.get_logger(__name__)


class _Message(NamedTuple):
    fields: list[Any]
    size: int
    until: float
    future: asyncio.Future[RecordMetadata]
    timestamp: float | None


class _Queue:
    """Messages on their way to one partition; `batch` is what was sent and not yet answered."""

    def __init__(self, topic: Topic, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.waiting: deque[_Message] = deque()
        self.batch: list[_Message] = []
        self.first = 1
        """Number of the batch's first message."""

    def fill(self) -> None:
        """Take the next batch, unless one is under way: that may be repeated, and must not change."""
        if self.batch:
            return
        size = 0
        while self.waiting and len(self.batch) < BATCH and size < BATCH_BYTES:
            self.batch.append(self.waiting.popleft())
            size += self.batch[-1].size

    def settle(self, outcome: int | Exception) -> None:
        """Tell everyone in the batch: the position of its first message, or what went wrong."""
        tp = TP(self.topic.name, self.partition)
        for index, message in enumerate(self.batch):
            if message.future.done():
                continue  # nobody waits for it any more
            if isinstance(outcome, int):
                message.future.set_result(RecordMetadata(*tp, tp, outcome + index, message.timestamp, 0))
            else:
                message.future.set_exception(outcome)
        self.first += len(self.batch)
        self.batch = []


class _Buffer(ProducerBuffer):
    """Faust's buffer for `send_soon`; every message that comes in asks for its size, so that is made cheap."""

    @property
    def size(self) -> int:
        return self.pending.qsize()


class Producer(BaseProducer):
    """What `app.send` and `topic.send` end in."""

    transport: Any

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop | None = None, **kwargs: Any) -> None:
        super().__init__(transport, loop=loop, **kwargs)
        self.buffer = _Buffer(loop=self.loop, beacon=self.beacon)
        self.buffer.app = self.app
        self._id = uuid.uuid4().hex
        self._queues: dict[TP, _Queue] = {}
        self._turn = count()
        self._count = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Condition()
        self._soon: set[asyncio.Future[Any]] = set()

    async def on_start(self) -> None:
        """Start sending."""
        await super().on_start()
        self.add_future(self._run())

    async def on_stop(self) -> None:
        """Send what waits."""
        await self.flush()

    async def on_shutdown(self) -> None:
        """Close the connections: the producer starts first and stops last."""
        await self.transport.close()

    # ------------------------------------------------------------ what Faust calls

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - Faust passes it
    ) -> Awaitable[RecordMetadata]:
        """Queue a message; waits while the queue is full. The future tells where it stands, or ProducerSendError."""
        stored = self.transport.topics.known(topic) or await self.transport.declare(topic)
        if stored.events:
            refuse(f"{topic!r} is a log of events: append to it, or send to a topic of another name")
        index = self._choose(stored, key, partition)
        fields = to_fields(key, value, timestamp, headers)
        if self._count >= WAITING:
            async with self._room:
                await self._room.wait_for(lambda: self._count < WAITING)
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        size = len(key or b"") + len(value or b"")
        tp = TP(topic, index)
        queue = self._queues.get(tp) or self._queues.setdefault(tp, _Queue(stored, index))
        queue.waiting.append(_Message(fields, size, time.monotonic() + self.request_timeout, future, timestamp))
        self._count += 1
        self._wake.set()
        return future

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - Faust passes it
    ) -> RecordMetadata:
        """Send a message and say where it stands."""
        return await (await self.send(topic, key, value, partition, timestamp, headers))

    def send_soon(self, fut: Any) -> None:
        """Send from a function that cannot wait; Faust's own buffer brings it to `send`."""
        self._soon.add(fut)
        fut.add_done_callback(self._soon.discard)
        super().send_soon(fut)

    async def flush(self) -> None:
        """Wait until everything that was handed in is sent or has failed."""
        until = time.monotonic() + self.request_timeout
        while (self._count or self._soon) and time.monotonic() < until:
            soon = list(self._soon)
            queued = [m.future for queue in self._queues.values() for m in (*queue.batch, *queue.waiting)]
            await asyncio.wait([*queued, *soon] or [asyncio.ensure_future(asyncio.sleep(0))], timeout=1.0)

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,  # noqa: ARG002 - Redis replicates as it is set up to
        *,
        config: Mapping[str, Any] | None = None,  # noqa: ARG002
        timeout: Any = 30.0,  # noqa: ARG002
        retention: Any = None,  # noqa: ARG002
        compacting: bool | None = None,
        deleting: bool | None = None,  # noqa: ARG002
        ensure_created: bool = False,  # noqa: ARG002
    ) -> None:
        """Make a topic; one that exists keeps its partitions."""
        check_topic(topic, compacting=compacting)
        await self.transport.declare(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Where messages with this key go. The topic must be in use."""
        stored = self.transport.topics.known(topic)
        if stored is None:
            raise KeyError(f"topic {topic!r} is not known yet: send to it or declare it first")
        return TP(topic, self._choose(stored, key, None))

    def supports_headers(self) -> bool:
        """Entries carry them."""
        return True

    def _choose(self, topic: Topic, key: bytes | None, partition: int | None) -> int:
        if partition is not None:
            if not 0 <= partition < topic.partitions:
                raise ValueError(f"topic {topic.name!r} has partitions 0 to {topic.partitions - 1}, not {partition}")
            return partition
        if self.partitioner is not None:
            every = list(range(topic.partitions))
            return int(self.partitioner(key, every, every))
        return next(self._turn) % topic.partitions if key is None else topic.partition_of(key)

    # ------------------------------------------------------------ the flusher

    async def _run(self) -> None:
        pause = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while round_ := self._next_round():
                if await self._attempt(round_):
                    pause = 0.0
                else:
                    pause = min(1.0, max(0.05, pause * 2))
                    await asyncio.sleep(random.uniform(pause / 2, pause))

    def _next_round(self) -> list[_Queue]:
        for queue in self._queues.values():
            queue.fill()
        return [queue for queue in self._queues.values() if queue.batch]

    async def _attempt(self, queues: list[_Queue]) -> bool:
        """Send every queue's batch once. False where some must be sent again."""
        before = sum(len(queue.batch) for queue in queues)
        try:
            pipeline = self.transport.redis.pipeline(transaction=False)
            for queue in queues:
                keys = queue.topic.keys
                arguments: list[Any] = [queue.first, len(queue.batch), REMEMBERED]
                for message in queue.batch:
                    arguments.append(len(message.fields))
                    arguments += message.fields
                log, producer = keys.log(queue.partition), keys.producer(queue.partition, self._id)
                pipeline.execute_command("EVALSHA", _SEND.sha, 2, log, producer, *arguments)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except UNREACHABLE as error:
            answers = [error] * len(queues)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            with contextlib.suppress(*UNREACHABLE):
                await self.transport.redis.script_load(_SEND.source)
        for queue, answer in zip(queues, answers, strict=True):
            if isinstance(answer, int):
                queue.settle(answer)
            elif time.monotonic() > queue.batch[0].until or _hopeless(answer):
                _log.error("messages could not be sent", topic=queue.topic.name, error=str(answer))
                queue.settle(ProducerSendError(f"{len(queue.batch)} messages could not be sent: {answer}"))
        sent = before - sum(len(queue.batch) for queue in queues)
        if sent:
            self._count -= sent
            async with self._room:
                self._room.notify_all()
        return not any(queue.batch for queue in queues)


def _hopeless(answer: Any) -> bool:
    """Whether Redis will never take it: not so while it has no script or no memory, or is loading."""
    passing = (NoScriptError, OutOfMemoryError, *UNREACHABLE)
    return isinstance(answer, ResponseError) and not isinstance(answer, passing) and "OOM" not in str(answer)
