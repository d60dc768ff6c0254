"""Runs a processor: deliveries → lanes → handling → acknowledgement.

What is here is the same for every host. `hosted` feeds it from the bare core; `streams.faust.hosting`
feeds it through a Faust agent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis.exceptions import ResponseError

from streams.background import running, stop_if_cancelled
from streams.deliveries import Delivery, Owned
from streams.errors import LogUnavailableError
from streams.groups import GroupConsumer
from streams.handling import Due, Handling, Source
from streams.lanes import Lanes
from streams.log import Log
from streams.processing import Processor, Services
from streams.settings import Settings
from streams.timers import Timers

FETCH = 200
"""Entries of one partition that one read asks for."""

DUE_EVERY = 0.25
"""Seconds between two looks for retries that are due; nothing is asked while nothing is blocked."""

_log = structlog.get_logger(__name__)


class Host:
    """One processor in this process, fed from the bare core. Made by `hosted`."""

    def __init__(self, processor: Processor, log: Log, services: Services, settings: Settings, member: str) -> None:
        self.processor, self._settings = processor, settings
        self.consumer = GroupConsumer(
            log.redis,
            log.keys,
            log.reader,
            log.partitions,
            processor.group,
            member,
            ttl=settings.lease_ttl,
            assigned=self._assigned,
            revoked=self._revoked,
        )
        self.source: Source = self._source()
        self.handling = Handling(processor, log, self.source, services, settings)
        self.lanes: Lanes[Delivery | Due] = Lanes(self._handle, concurrency=processor.side_by_side(settings))
        self.timers = Timers(
            processor,
            self.consumer,
            log.partitions,
            services,
            settings,
            draining=self.handling.draining,
            beats=self.handling.beat,
        )
        self._due: set[tuple[int, bytes]] = set()
        self._stopping = self._drained = False

    async def run(self) -> None:
        """Work until cancelled; see `drain` for a clean end."""
        async with running(self._retry()):
            await self._feed()

    # ------------------------------------------------------------ what a host may do differently

    def _source(self) -> Source:
        """Whom the handling tells what became of a delivery."""
        return self.consumer

    async def _feed(self) -> None:
        """Bring deliveries to `take`, until cancelled."""
        async with running(self.consumer.run(), self.timers.run()):
            while not self._stopping:
                stop_if_cancelled()
                await self.lanes.room()
                for delivery in await self.consumer.fetch(FETCH, timeout=10.0):
                    self.take(delivery)
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    async def _assigned(self, owned: Owned) -> None:
        await self.handling.assigned(owned)

    async def _stop_feeding(self) -> None:
        """End what `_feed` began; every partition was given back already."""

    # ------------------------------------------------------------ what is the same for all

    def take(self, delivery: Delivery) -> None:
        """Put a delivery in its subject's lane, or be done with it where the processor has no use for it."""
        if self._stopping:
            self.source.drop(delivery, reread=True)
        elif self.handling.concerns(delivery.fields):
            self.lanes.submit(delivery.fields.get(b"subject", b"!"), delivery)
        else:
            self.source.ack(delivery)

    async def _handle(self, item: Delivery | Due) -> None:
        try:
            await self.handling.handle(item)
        finally:
            if isinstance(item, Due):
                self._due.discard((item.owned.partition, item.subject))

    async def _retry(self) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(DUE_EVERY)
            owned = {
                p: one for p, one in self.consumer.owned.items() if self.handling.blocked.get(p) and not one.leaving
            }
            if not owned:
                continue
            with contextlib.suppress(LogUnavailableError, ResponseError):
                for partition, subjects in (await self.handling.retries.due(sorted(owned))).items():
                    if owned[partition].leaving or owned[partition].lost:
                        continue
                    for subject in subjects:
                        if (partition, subject) not in self._due:
                            self._due.add((partition, subject))
                            self.lanes.submit(subject, Due(owned[partition], subject))

    async def _revoked(self, owned: Owned) -> None:
        """Let go of a partition: what has not begun is dropped, what runs gets its time unless it was lost."""
        await self.timers.revoked(owned)

        def belongs(item: Delivery | Due) -> bool:
            return item.owned is owned

        for item in self.lanes.discard(belongs):
            if isinstance(item, Delivery):
                self.source.drop(item, reread=False)
            else:
                self._due.discard((item.owned.partition, item.subject))
        await self.lanes.finish(belongs, 0.0 if owned.lost else self._settings.drain)

    async def drain(self) -> None:
        """Stop taking work, let what runs finish within the drain time, give everything back. Once is enough."""
        if self._drained:
            return
        self._stopping = True
        self.handling.draining.set()
        await self.handling.breaker.recheck()  # what waits for a dependency would wait in vain
        await self.consumer.stop()
        await self._stop_feeding()
        await self.lanes.close(1.0)
        self._drained = True


@asynccontextmanager
async def hosted(
    processor: Processor, log: Log, services: Services, settings: Settings, member: str
) -> AsyncIterator[Host]:
    """A processor at work while the body runs; drained when it ends."""
    async with at_work(Host(processor, log, services, settings, member)) as host:
        yield host


@asynccontextmanager
async def at_work(host: Host) -> AsyncIterator[Host]:
    """A host that runs beside the body and is drained when it ends."""
    async with running(host.run()):
        try:
            yield host
        finally:
            await host.drain()
