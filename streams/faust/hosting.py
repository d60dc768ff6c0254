"""Runs one of our processors as a Faust App, in our own event loop.

The App's id is the consumer group. Its agent feeds the lanes that the bare host has, too, and each
entry's acknowledgement goes back through Faust. Retries, parking, breaker and drain are the host's.
Timers are the App's own, `on_leader=True`: who leads is told by the host's leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from streams.deliveries import Delivery, Owned
from streams.entries import Fence
from streams.errors import SpoolhouseError
from streams.handling import Source
from streams.hosting import Host, at_work
from streams.log import Log
from streams.processing import Processor, Services, Timer
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.faust.consumer import Consumer

STOP_TIMEOUT = 10.0
"""Seconds that an App gets to stop, once everything was given back."""

_log = structlog.get_logger(__name__)


class FaustHost(Host):
    """One processor in this process, fed by a Faust agent. Made by `hosted_by_faust`."""

    def __init__(self, processor: Processor, log: Log, services: Services, settings: Settings, member: str) -> None:
        super().__init__(processor, log, services, settings, member)
        self._log = log
        self.app: Any = None
        """The App at work."""

    def _source(self) -> Source:
        return _ThroughFaust(self)

    async def _feed(self) -> None:
        app = self.app = self._new_app()
        await app.start()
        await app.wait_until_stopped()
        if not self._stopping:  # whoever runs us ends, and is started again
            raise app.crash_reason or SpoolhouseError(f"the Faust App of {self.processor.group} stopped by itself")
        await asyncio.Event().wait()

    def _new_app(self) -> Any:
        import faust

        from streams.faust.messages import StreamMessage
        from streams.faust.topics import Topic
        from streams.faust.transport import LeaseLeader, NoMonitor, NoTables, Transport

        log, group = self._log, self.processor.group
        datadir = self._settings.working / "faust"
        datadir.mkdir(parents=True, exist_ok=True)
        app = faust.App(
            group,
            broker="redis://",  # the log's own connections are used
            datadir=str(datadir),
            web_enabled=False,
            stream_wait_empty=False,  # draining is ours
            topic_disable_leader=True,
            cython_optimizations=True,
            LeaderAssignor=LeaseLeader,
            TableManager=NoTables,
            Monitor=NoMonitor,
            key_serializer="raw",
            value_serializer="raw",
        )
        app.transport = app.producer_transport = Transport.over(app, log.redis)
        topic = Topic(log.redis, log.keys.namespace, log.partitions, events=True, reader=log.reader)
        app.transport.topics.add(topic)
        app.transport.groups[topic.name] = self.consumer
        app.transport.concerns = self.handling.concerns
        app.transport.leads = self.timers.leads
        app.transport.to_message = StreamMessage  # the handling reads the entry itself

        async def work(stream: Any) -> None:
            async for event in stream.noack().events():
                await self.lanes.room()
                delivery = event.message.delivery
                delivery.carrier = event
                self.take(delivery)

        app.agent(app.topic(topic.name, key_type=bytes, value_type=bytes), name=group)(work)
        for timer in self.processor.timers:
            app.timer(timer.every(self._settings), on_leader=True, name=f"{group}.{timer.name}")(self._running(timer))
        return app

    def _running(self, timer: Timer) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.timers.once(timer)

        return run

    async def _assigned(self, owned: Owned) -> None:
        await super()._assigned(owned)
        await self._faust.take(self._log.keys.namespace, owned)

    async def _revoked(self, owned: Owned) -> None:
        await super()._revoked(owned)
        await self._faust.let_go(self._log.keys.namespace, owned, wait=False)

    @property
    def _faust(self) -> Consumer:
        consumer: Consumer = self.app.consumer
        return consumer

    async def _stop_feeding(self) -> None:
        if self.app is not None:
            await self._stop_app()

    async def _stop_app(self) -> None:
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.app.stop()
        except TimeoutError:
            _log.error("Faust App did not stop in time", group=self.processor.group, seconds=STOP_TIMEOUT)


class _ThroughFaust:
    """Tells Faust, and through it the group, what became of a delivery."""

    def __init__(self, host: FaustHost) -> None:
        self._consumer = host.consumer

    def fence(self, owned: Owned) -> Fence:
        return self._consumer.fence(owned)

    def ack(self, delivery: Delivery) -> None:
        event, delivery.carrier = delivery.carrier, None
        if event is None:
            self._consumer.ack(delivery)
        else:
            event.ack()

    def settled(self, delivery: Delivery) -> None:
        delivery.carrier = None
        self._consumer.settled(delivery)

    def drop(self, delivery: Delivery, *, reread: bool) -> None:
        delivery.carrier = None
        self._consumer.drop(delivery, reread=reread)


@asynccontextmanager
async def hosted_by_faust(
    processor: Processor, log: Log, services: Services, settings: Settings, member: str
) -> AsyncIterator[FaustHost]:
    """A processor at work in a Faust App while the body runs; drained when it ends. As `streams.hosting.hosted`."""
    host = FaustHost(processor, log, services, settings, member)
    async with at_work(host):
        yield host
