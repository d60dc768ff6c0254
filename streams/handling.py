"""From a delivered entry to a handled one: decode, run the processor, append what it yields, sort failures.

This is what a lane runs. It knows nothing of how entries arrive (the bare core or Faust): whoever
delivers passes a `Source` that can fence, acknowledge and drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

import structlog

from streams.background import stop_if_cancelled
from streams.breaker import Breaker
from streams.codec import Recorded, recorded
from streams.crashpoints import reach
from streams.deliveries import Delivery, Owned
from streams.entries import Entry, Fence, NewEvent, new_event
from streams.errors import (
    ConflictError,
    DependencyDownError,
    DrainingError,
    FencedError,
    LogUnavailableError,
    PoisonError,
    TransientError,
    UndecodableError,
)
from streams.events import Event
from streams.keys import partition_of
from streams.log import Log
from streams.processing import Context, First, Processor, Services, bound_logger
from streams.retries import LOST, Retries
from streams.setting_aside import SettingAside
from streams.settings import Settings
from streams.suspects import Suspects

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between tries of what the log, not the processor, kept from ending."""

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """Where deliveries come from."""

    def fence(self, owned: Owned) -> Fence:
        """What an append must carry to be refused once this partition is someone else's."""
        ...

    def ack(self, delivery: Delivery) -> None:
        """It is done."""
        ...

    def settled(self, delivery: Delivery) -> None:
        """It was acknowledged together with something else."""
        ...

    def drop(self, delivery: Delivery, *, reread: bool) -> None:
        """Forget it without an acknowledgement; `reread`: have it delivered again soon."""
        ...


@dataclass(slots=True)
class Due:
    """A blocked subject whose time has come."""

    owned: Owned
    subject: bytes


class _End(Enum):
    DONE = "done"
    LOST = "lost"
    AGAIN = "again"
    """It failed and may work later."""
    NEVER = "never"
    """It failed and will not work as it is."""


class Handling:
    """Handles the deliveries of one processor."""

    def __init__(self, processor: Processor, log: Log, source: Source, services: Services, settings: Settings) -> None:
        self._processor, self._log, self._source = processor, log, source
        self._services, self._settings = services, settings
        self._attempts = processor.attempts or settings.attempts
        self.retries = Retries(log.redis, log.keys, processor.group)
        self.breaker = Breaker(processor.group)
        self.draining = asyncio.Event()
        self.aside = SettingAside(self.retries, self._insist, source.fence)
        self.blocked = self.aside.blocked
        self.suspects = Suspects(self.retries)
        self.last_beat = time.monotonic()
        self.handled = 0
        self._on = {name.encode() for name in processor.on}
        self._all = not processor.on

    def concerns(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether the processor wants this entry: its type is asked for, or it has none at all."""
        name = fields.get(b"type")
        return self._all or name is None or name in self._on

    async def assigned(self, owned: Owned) -> None:
        """Learn which subjects are blocked in a new partition."""
        await self.aside.learn(owned.partition)

    async def handle(self, item: Delivery | Due) -> None:
        """Handle one item to its end: acknowledged, set aside, or dropped because it is no longer ours."""
        if isinstance(item, Due):
            await self._persist(lambda: self._drain(item), item.owned)
            return
        try:
            finished = await self._persist(lambda: self._deliver(item), item.owned)
        except asyncio.CancelledError:
            self._source.drop(item, reread=False)
            raise
        if not finished:
            self._source.drop(item, reread=False)

    async def _persist(self, work: Callable[[], Awaitable[None]], owned: Owned) -> bool:
        """Run one item's work, again where the log went away in the middle; False once the partition is lost.

        It stays first in its lane meanwhile: what comes after it must not overtake.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                await work()
            except FencedError:
                _log.warning("fenced: the partition may be someone else's", group=self._processor.group)
                owned.lease.until = 0.0  # the next beat tells
            except LogUnavailableError as error:
                _log.warning("the log went away in mid-work; it is done again", error=str(error))
            except Exception:  # noqa: BLE001 # a bug must not strand an entry
                _log.exception("handling an event failed unexpectedly; it is done again", group=self._processor.group)
            else:
                return True
            if not await owned.kept():
                return False
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    # ------------------------------------------------------------ one delivery

    async def _deliver(self, delivery: Delivery) -> None:
        owned = delivery.owned
        if self.draining.is_set() or not await owned.kept():
            self._source.drop(delivery, reread=False)
            return
        subject = delivery.fields.get(b"subject")
        blocked = self.blocked.get(delivery.partition)
        fence = self._source.fence(owned)
        if blocked and subject is not None and subject in blocked:
            answer = await self.retries.queue(fence, delivery.pos, subject.decode(), delivery.fields)
            if answer != 0:
                self._leave(delivery, answer)
                return
            blocked.discard(subject)
        entry = Entry(delivery.partition, delivery.pos, delivery.fields)
        try:
            event = self._decoded(entry)
        except UndecodableError as error:
            self._leave(delivery, await self.aside.park_alone(fence, entry, str(error)))
            return
        deaths = await self.suspects.deaths(entry) if delivery.again else 0
        if deaths >= self._attempts:
            self._leave(delivery, await self.aside.park(owned, event, entry, deaths, 0, _died(deaths)))
            return
        async with self.suspects.watched(deaths):
            if delivery.again and delivery.valid():
                await self.suspects.begin(entry)
            end, reason, wait = await self._run(event, owned, 1)
        if end is _End.DONE:
            reach("handle.before_ack")
            await self.suspects.ended(entry)
            self._source.ack(delivery)
            self.handled += 1
        elif end is _End.LOST:
            self._source.drop(delivery, reread=False)
        else:
            self._leave(delivery, await self._set_aside(owned, event, entry, 1, 0, end, reason, wait))

    def _decoded(self, entry: Entry) -> Recorded[Any]:
        """The event in an entry. Raises UndecodableError, also where its subject belongs elsewhere."""
        event = recorded(entry.partition, entry.pos, entry.fields)
        home = partition_of(event.subject, self._log.partitions)
        if home != entry.partition:  # put in by hand: no lease of ours covers what it would lead to
            raise UndecodableError(entry.partition, entry.pos, f"its subject belongs to partition {home:02d}")
        return event

    def _leave(self, delivery: Delivery, answer: int) -> None:
        """The entry was set aside (and acknowledged with it). Raises FencedError where that was refused."""
        if answer == LOST:
            raise FencedError(f"partition {delivery.partition:02d} may be someone else's by now")
        self._source.settled(delivery)

    # ------------------------------------------------------------ a blocked subject

    async def _drain(self, due: Due) -> None:
        """Handle a blocked subject's entries in order until one fails or none is left."""
        partition, subject = due.owned.lease.partition, due.subject.decode()
        while not due.owned.leaving and await due.owned.kept():
            found = await self.retries.head(partition, subject)
            if found is None:
                return
            entry, failed, parkings = found
            fence = self._source.fence(due.owned)
            try:
                event = self._decoded(entry)
            except UndecodableError as error:
                if not subject.startswith("!"):
                    await self.aside.park_alone(fence, entry, str(error))
                    if await self._advance(fence, entry.pos, due, keep_parked=True) <= 0:
                        return
                    continue
                await self.aside.park_again(fence, entry, subject, failed, str(error))
                return
            deaths = await self.suspects.deaths(entry)
            if deaths >= self._attempts:
                await self.aside.park(due.owned, event, entry, deaths, parkings, _died(deaths))
                return
            async with self.suspects.watched(deaths):
                await self.suspects.begin(entry)
                end, reason, wait = await self._run(event, due.owned, failed + 1)
            if end is _End.LOST:
                return
            if end is not _End.DONE:
                await self._set_aside(due.owned, event, entry, failed + 1, parkings, end, reason, wait)
                return
            self.handled += 1
            reach("retry.before_advance")
            left = await self._advance(self._source.fence(due.owned), entry.pos, due)
            reach("retry.after_advance")
            if left <= 0:
                return
            self.suspects.forget(entry)

    async def _set_aside(
        self,
        owned: Owned,
        event: Recorded[Any],
        entry: Entry,
        attempt: int,
        parkings: int,
        end: _End,
        reason: str,
        wait: float | None,
    ) -> int:
        """Delay an entry that failed, or park it once that is enough; its subject is blocked from now on."""
        await self.suspects.ended(entry)
        if end is _End.NEVER or attempt >= self._attempts:
            return await self.aside.park(owned, event, entry, attempt, parkings, reason)
        return await self.aside.delay(owned, event, entry, attempt, parkings, reason, wait)

    async def _advance(self, fence: Fence, pos: int, due: Due, *, keep_parked: bool = False) -> int:
        left = await self.retries.advance(fence, pos, due.subject.decode(), keep_parked=keep_parked)
        if left == 0:
            self.blocked.get(due.owned.lease.partition, set()).discard(due.subject)
        return left

    # ------------------------------------------------------------ running the processor

    async def _run(self, event: Recorded[Any], owned: Owned, attempt: int) -> tuple[_End, str, float | None]:
        """Run the processor until it ends or fails; waits while its dependency is down."""
        while True:
            stop_if_cancelled()
            try:
                if not await self.breaker.admit(unless=self.draining):
                    await self.suspects.stopped(event)
                    return _End.LOST, "", None
                if not await owned.kept():
                    await self.breaker.abandoned()
                    return _End.LOST, "", None
                self.beat()
                await self._once(event, owned, attempt)
            except DependencyDownError as error:
                await self.breaker.failed(str(error), error.retry_after)
                continue
            except asyncio.CancelledError as error:
                await self.breaker.abandoned()
                if not _cancelled():  # not we, but something that the processor waited for
                    return _End.AGAIN, f"{type(error).__name__}: something it waited for was cancelled", None
                await self.suspects.stopped(event)
                raise
            except (FencedError, LogUnavailableError):
                await self.breaker.abandoned()
                raise
            except DrainingError as error:
                await self.breaker.abandoned()
                if not self.draining.is_set():
                    return _End.AGAIN, f"{type(error).__name__}: it was not asked to stop", None
                await self.suspects.stopped(event)
                return _End.LOST, "", None
            except PoisonError as error:
                await self.breaker.succeeded()
                return _End.NEVER, str(error), None
            except TransientError as error:
                await self.breaker.succeeded()
                return _End.AGAIN, str(error), error.retry_after
            except Exception as error:  # noqa: BLE001 # what a processor does not sort counts as transient
                await self.breaker.abandoned()
                _log.exception("a processor failed", group=self._processor.group, subject=event.subject)
                return _End.AGAIN, f"{type(error).__name__}: {error}", None
            await self.breaker.succeeded()
            self.beat()
            return _End.DONE, "", None

    async def _once(self, event: Recorded[Any], owned: Owned, attempt: int) -> None:
        group = self._processor.group
        context = Context(
            settings=self._settings,
            attempt=attempt,
            draining=self.draining,
            log=bound_logger(group, event.subject),
            services=self._services,
            beats=self.beat,
            answers=self.breaker.succeeded,
        )
        ordinals: Counter[tuple[str, str]] = Counter()
        async with contextlib.aclosing(self._processor.handler(event, context)) as results:  # type: ignore[type-var]
            async for result in results:
                reach("handle.before_append")
                if await self._append(event, owned, result, ordinals):
                    await self.suspects.progressed(event)
                reach("handle.after_append")
                self.beat()

    async def _append(
        self, cause: Recorded[Any], owned: Owned, result: Event | First, ordinals: Counter[tuple[str, str]]
    ) -> bool:
        """Append what a processor yielded; False where it was in the log already."""
        first = isinstance(result, First)
        subject, event = (result.subject, result.event) if isinstance(result, First) else (cause.subject, result)
        key = (subject, event.step())
        new = new_event(
            subject,
            event,
            source=self._processor.group,
            cause=cause,
            ordinal=ordinals[key],
            expected=0 if first else None,
            checkpoint=event.checkpoint(datetime.now(UTC)),
            fence=None if first else self._source.fence(owned),
        )
        ordinals[key] += 1
        try:
            return await self._insist(new, owned)
        except ConflictError:
            if not first:
                raise
            return False

    async def _insist(self, new: NewEvent, owned: Owned) -> bool:
        """Append for as long as the partition is ours: Redis may be gone for a while. False: it was there already.

        Raises FencedError where it is someone else's. Our own lease may have run out meanwhile and be
        ours again under another token: then what was done stands, and is appended under that.
        """
        fenced = False
        while True:
            stop_if_cancelled()
            try:
                placed = await self._log.append(new, timeout=2.0)
            except LogUnavailableError:
                await asyncio.sleep(FIRST_PAUSE)  # a full Redis refuses at once
            except FencedError:
                if fenced and new.fence == self._source.fence(owned):
                    raise
                fenced, owned.lease.until = True, 0.0
            else:
                return not placed.duplicate
            if not await owned.kept():
                raise FencedError(f"partition {owned.partition:02d} is someone else's by now")
            if new.fence is not None:
                new = replace(new, fence=self._source.fence(owned))

    def beat(self) -> None:
        """Something went on."""
        self.last_beat = time.monotonic()


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _died(deaths: int) -> str:
    return f"the worker died {deaths} times while it handled this event"
