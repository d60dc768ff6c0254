"""From a delivered entry to a handled one: decode, run the processor, append what it yields, sort failures.

This is what a lane runs. It knows nothing of how entries arrive (the bare core or Faust): whoever
delivers passes a `Source` that can fence, acknowledge and drop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Protocol

import structlog

from streams.breaker import Breaker
from streams.codec import Recorded, recorded
from streams.crashpoints import reach
from streams.entries import Entry, Fence, NewEvent, new_event
from streams.errors import (
    ConflictError,
    DependencyDownError,
    FencedError,
    LogUnavailableError,
    PoisonError,
    TransientError,
    UndecodableError,
)
from streams.events import AttemptFailed, EntryParked, Event
from streams.groups import Delivery, Owned
from streams.log import Log
from streams.processing import Context, First, Processor, Services, bound_logger
from streams.retries import LOST, Retries, alone, backoff
from streams.settings import Settings

_log = structlog.get_logger(__name__)


class Source(Protocol):
    """Where deliveries come from."""

    def fence(self, owned: Owned) -> Fence: ...
    def ack(self, delivery: Delivery) -> None: ...
    def settled(self, delivery: Delivery) -> None: ...
    def drop(self, delivery: Delivery, *, reread: bool) -> None: ...


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
        self.blocked: dict[int, set[bytes]] = {}
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
        self.blocked[owned.lease.partition] = await self.retries.blocked(owned.lease.partition)

    async def handle(self, item: Delivery | Due) -> None:
        """Handle one item to its end: acknowledged, set aside, or dropped because it is no longer ours."""
        if isinstance(item, Due):
            await self._persist(self._drain(item), item.owned)
            return
        try:
            finished = await self._persist(self._deliver(item), item.owned)
        except asyncio.CancelledError:
            self._source.drop(item, reread=False)
            raise
        if not finished:
            self._source.drop(item, reread=True)

    async def _persist(self, work: Any, owned: Owned) -> bool:
        """Run one item's work; False where it could not be finished because the log went away."""
        try:
            await work
        except FencedError:
            _log.warning("fenced: the partition is someone else's", group=self._processor.group)
            owned.lease.until = 0.0
        except LogUnavailableError as error:
            _log.warning("the log went away in mid-work; it is done again", error=str(error))
            return False
        return True

    # ------------------------------------------------------------ one delivery

    async def _deliver(self, delivery: Delivery) -> None:
        if not delivery.valid():
            self._source.drop(delivery, reread=False)
            return
        subject = delivery.fields.get(b"subject")
        blocked = self.blocked.get(delivery.partition)
        fence = self._source.fence(delivery.owned)
        if blocked and subject is not None and subject in blocked:
            answer = await self.retries.queue(fence, delivery.pos, subject.decode(), delivery.fields)
            if answer != 0:
                self._leave(delivery, answer)
                return
            blocked.discard(subject)
        entry = Entry(delivery.partition, delivery.pos, delivery.fields)
        try:
            event = recorded(entry.partition, entry.pos, entry.fields)
        except UndecodableError as error:
            self._leave(delivery, await self._park_alone(fence, entry, str(error)))
            return
        if delivery.again:
            starts = await self.retries.started_again(delivery.partition, delivery.pos)
            if starts > self._attempts:
                reason = f"the worker died {starts - 1} times while it handled this event"
                self._leave(delivery, await self._park(fence, event, entry, starts - 1, 0, reason))
                return
        try:
            end, reason, wait = await self._run(event, delivery.owned, 1)
        except asyncio.CancelledError:
            if delivery.again:  # it was stopped on purpose; that is no crash
                with contextlib.suppress(LogUnavailableError, asyncio.CancelledError):
                    await self.retries.started_again(delivery.partition, delivery.pos, -1)
            raise
        if end is _End.DONE:
            reach("handle.before_ack")
            if delivery.again:
                await self.retries.ended(delivery.partition, delivery.pos)
            self._source.ack(delivery)
            self.handled += 1
        elif end is _End.LOST:
            self._source.drop(delivery, reread=False)
        else:
            self._leave(delivery, await self._set_aside(fence, event, entry, 1, 0, end, reason, wait))

    def _leave(self, delivery: Delivery, answer: int) -> None:
        """The entry was set aside (and acknowledged with it), or is no longer ours."""
        if answer == LOST:
            self._source.drop(delivery, reread=False)
        else:
            self._source.settled(delivery)

    # ------------------------------------------------------------ a blocked subject

    async def _drain(self, due: Due) -> None:
        """Handle a blocked subject's entries in order until one fails or none is left."""
        partition, subject = due.owned.lease.partition, due.subject.decode()
        while due.owned.lease.valid() and not due.owned.lost:
            found = await self.retries.head(partition, subject)
            if found is None:
                return
            entry, failed, parkings = found
            fence = self._source.fence(due.owned)
            try:
                event = recorded(partition, entry.pos, entry.fields)
            except UndecodableError as error:
                if not subject.startswith("!"):
                    await self._park_alone(fence, entry, str(error))
                    if await self._advance(fence, entry.pos, due) <= 0:
                        return
                    continue
                await self.retries.park(
                    fence, entry.pos, subject, entry.fields, self._account(entry, subject, failed, str(error))
                )
                return
            end, reason, wait = await self._run(event, due.owned, failed + 1)
            if end is _End.LOST:
                return
            if end is not _End.DONE:
                await self._set_aside(fence, event, entry, failed + 1, parkings, end, reason, wait)
                return
            self.handled += 1
            if await self._advance(fence, entry.pos, due) <= 0:
                return

    async def _advance(self, fence: Fence, pos: int, due: Due) -> int:
        left = await self.retries.advance(fence, pos, due.subject.decode())
        if left == 0:
            self.blocked.get(due.owned.lease.partition, set()).discard(due.subject)
        return left

    # ------------------------------------------------------------ running the processor

    async def _run(self, event: Recorded[Any], owned: Owned, attempt: int) -> tuple[_End, str, float | None]:
        """Run the processor until it ends or fails; waits while its dependency is down."""
        while True:
            await self.breaker.admit()
            if not owned.lease.valid() or owned.lost:
                await self.breaker.abandoned()
                return _End.LOST, "", None
            self.beat()
            try:
                await self._once(event, owned, attempt)
            except DependencyDownError as error:
                await self.breaker.failed(str(error))
                continue
            except (FencedError, LogUnavailableError, asyncio.CancelledError):
                await self.breaker.abandoned()
                raise
            except PoisonError as error:
                await self.breaker.succeeded()
                return _End.NEVER, str(error), None
            except TransientError as error:
                await self.breaker.succeeded()
                return _End.AGAIN, str(error), error.retry_after
            except Exception as error:
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
        )
        ordinals: Counter[tuple[str, str]] = Counter()
        async with contextlib.aclosing(self._processor.handler(event, context)) as results:  # type: ignore[type-var]
            async for result in results:
                reach("handle.before_append")
                await self._append(event, owned, result, ordinals)
                reach("handle.after_append")
                self.beat()

    async def _append(
        self, cause: Recorded[Any], owned: Owned, result: Event | First, ordinals: Counter[tuple[str, str]]
    ) -> None:
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
            fence=None if first else self._source.fence(owned),
        )
        ordinals[key] += 1
        try:
            await self._insist(new, owned)
        except ConflictError:
            if not first:
                raise

    async def _insist(self, new: NewEvent, owned: Owned) -> None:
        """Append for as long as the lease holds: Redis may be gone for a moment."""
        while True:
            try:
                await self._log.append(new, timeout=2.0)
            except LogUnavailableError:
                if not owned.lease.valid():
                    raise
            else:
                return

    def beat(self) -> None:
        """Something went on."""
        self.last_beat = time.monotonic()

    # ------------------------------------------------------------ failures

    async def _set_aside(
        self,
        fence: Fence,
        event: Recorded[Any],
        entry: Entry,
        attempt: int,
        parkings: int,
        end: _End,
        reason: str,
        wait: float | None,
    ) -> int:
        """Delay an entry that failed, or park it; its subject is blocked from now on."""
        if end is _End.NEVER or attempt >= self._attempts:
            return await self._park(fence, event, entry, attempt, parkings, reason)
        pause = backoff(attempt) if wait is None else wait
        failed = AttemptFailed(
            group=self._processor.group,
            position=entry.pos,
            attempt=attempt,
            reason=reason[:2000],
            retry_at=datetime.now(UTC) + timedelta(seconds=pause),
        )
        await self._log.append(self._about(event, failed, parkings, fence))
        _log.warning(
            "attempt failed",
            group=self._processor.group,
            subject=event.subject,
            attempt=attempt,
            reason=reason,
            retry_in=round(pause, 1),
        )
        self._block(entry)
        return await self.retries.delay(fence, entry.pos, event.subject, entry.fields, attempt, time.time() + pause)

    async def _park(
        self, fence: Fence, event: Recorded[Any], entry: Entry, attempts: int, parkings: int, reason: str
    ) -> int:
        parked = EntryParked(
            group=self._processor.group,
            position=entry.pos,
            attempts=attempts,
            reason=reason[:2000],
            parking=parkings + 1,
        )
        await self._log.append(self._about(event, parked, parkings, fence))
        _log.error("event parked", group=self._processor.group, subject=event.subject, reason=reason)
        self._block(entry)
        account = self._account(entry, event.subject, attempts, reason)
        return await self.retries.park(fence, entry.pos, event.subject, entry.fields, account)

    async def _park_alone(self, fence: Fence, entry: Entry, reason: str) -> int:
        """Park an entry that cannot be decoded: it blocks nothing."""
        _log.error("undecodable entry parked", group=self._processor.group, reason=reason)
        subject = alone(entry.pos)
        account = self._account(entry, subject, 0, reason)
        return await self.retries.park(fence, entry.pos, subject, entry.fields, account)

    def _about(self, event: Recorded[Any], failure: Event, parkings: int, fence: Fence) -> NewEvent:
        return new_event(
            event.subject, failure, source=self._processor.group, cause=event, ordinal=parkings, fence=fence
        )

    def _block(self, entry: Entry) -> None:
        self.blocked.setdefault(entry.partition, set()).add(entry.fields[b"subject"])

    def _account(self, entry: Entry, subject: str, attempts: int, reason: str) -> dict[str, Any]:
        return {
            "subject": subject,
            "type": entry.fields.get(b"type", b"?").decode("utf-8", "replace"),
            "reason": reason[:2000],
            "attempts": attempts,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
