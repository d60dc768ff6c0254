"""Runs a processor's timers: in one process at a time, whoever hosts it.

The leader of a consumer group is the member that holds the lease of one given partition, the one that the
group's own name falls into. Nothing is elected beside that: leases are fenced, and handed over already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from streams.background import running, stop_if_cancelled
from streams.deliveries import Owned
from streams.errors import SpoolhouseError
from streams.groups import GroupConsumer
from streams.keys import partition_of
from streams.processing import Context, Processor, Services, Timer
from streams.settings import Settings

_log = structlog.get_logger(__name__)


class Timers:
    """The timers of one processor in this process."""

    def __init__(
        self,
        processor: Processor,
        consumer: GroupConsumer,
        partitions: int,
        services: Services,
        settings: Settings,
        *,
        draining: asyncio.Event,
        beats: Callable[[], None],
    ) -> None:
        self._processor, self._consumer = processor, consumer
        self._services, self._settings, self._draining, self._beats = services, settings, draining, beats
        self.home = partition_of(processor.group, partitions)
        """Whoever has the lease of this partition leads."""
        self._at_work: set[asyncio.Task[None]] = set()
        self._failing: dict[str, str] = {}

    def leads(self) -> bool:
        """Whether it is this process that runs them just now."""
        return self._left() > 0

    def _left(self) -> float:
        """Seconds for which we lead for certain."""
        owned = self._consumer.owned.get(self.home)
        if owned is None or owned.leaving or owned.gone or self._draining.is_set():
            return 0.0
        return owned.lease.until - time.monotonic()

    async def run(self) -> None:
        """Run all of them, each in its time, for ever: for a host that has no timers of its own."""
        async with running(*(self._repeat(timer) for timer in self._processor.timers)):
            await asyncio.Event().wait()

    async def _repeat(self, timer: Timer) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(timer.every(self._settings))
            await self.once(timer)

    async def once(self, timer: Timer) -> None:
        """Run a timer now, where we lead, and for as long as we do. What goes wrong is logged."""
        if not self.leads():
            return
        task = asyncio.ensure_future(timer.run(self._context(timer)))
        self._at_work.add(task)
        try:
            while (left := self._left()) > 0 and not task.done():
                await asyncio.wait({task}, timeout=left)  # the lease may be renewed meanwhile
            if not task.done():
                _log.info("a timer stops: another process leads", group=self._processor.group, timer=timer.name)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._at_work.discard(task)
        if not task.cancelled():
            self._note(timer, task.exception())

    async def revoked(self, owned: Owned) -> None:
        """A partition is leaving or lost: where it is the leader's, nothing runs here any more on return."""
        if owned.partition == self.home:
            at_work = list(self._at_work)
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)

    def _note(self, timer: Timer, error: BaseException | None) -> None:
        """Say what failed once, not each time."""
        reason = None if error is None else f"{type(error).__name__}: {error}"
        known = self._failing.pop(timer.name, None)
        if reason is None:
            if known is not None:
                _log.info("a timer works again", group=self._processor.group, timer=timer.name)
            return
        self._failing[timer.name] = reason
        if reason != known:
            trace = None if isinstance(error, SpoolhouseError) else error
            _log.error(
                "a timer failed; it is run again in its time",
                group=self._processor.group,
                timer=timer.name,
                reason=reason,
                exc_info=trace,
            )

    def _context(self, timer: Timer) -> Context:
        return Context(
            settings=self._settings,
            attempt=1,
            draining=self._draining,
            log=structlog.get_logger("processors", group=self._processor.group, timer=timer.name),
            services=self._services,
            beats=self._beats,
        )
