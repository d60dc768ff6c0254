"""What becomes of an entry that its processor failed at: delayed, or parked, and said in the log either way.

Its subject is blocked from then on (see `retries`). The event that tells of it is appended first,
so that whoever sees the block can read why.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from streams.codec import Recorded
from streams.crashpoints import reach
from streams.deliveries import Owned
from streams.entries import Entry, Fence, NewEvent, new_event
from streams.events import AttemptFailed, EntryParked, Event
from streams.retries import Retries, alone, backoff

REASON = 2000
"""Characters of a reason that are kept."""

_log = structlog.get_logger(__name__)


class SettingAside:
    """Sets entries of one group aside."""

    def __init__(
        self,
        retries: Retries,
        append: Callable[[NewEvent, Owned], Awaitable[object]],
        fence: Callable[[Owned], Fence],
    ) -> None:
        """`append` insists for as long as the partition is ours; `fence` is that of its lease as of now."""
        self._retries, self._append, self._fence = retries, append, fence
        self._group = retries.group
        self.blocked: dict[int, set[bytes]] = {}
        """Partition → the subjects that are blocked in it."""

    async def learn(self, partition: int) -> None:
        """Learn which subjects are blocked in a partition that is new to us."""
        self.blocked[partition] = await self._retries.blocked(partition)

    async def delay(
        self,
        owned: Owned,
        event: Recorded[Any],
        entry: Entry,
        attempt: int,
        parkings: int,
        reason: str,
        wait: float | None,
    ) -> int:
        """Have an entry tried again after `wait` seconds (None: the usual backoff). LOST where fenced."""
        pause = backoff(attempt) if wait is None else wait
        failed = AttemptFailed(
            group=self._group,
            position=entry.pos,
            attempt=attempt,
            reason=_told(reason),
            retry_at=datetime.now(UTC) + timedelta(seconds=pause),
        )
        await self._append(self._about(event, failed, parkings, owned), owned)
        _log.warning(
            "attempt failed",
            group=self._group,
            subject=event.subject,
            attempt=attempt,
            reason=reason,
            retry_in=round(pause, 1),
        )
        self._block(entry)
        reach("retry.told")
        due = time.time() + pause
        answer = await self._retries.delay(self._fence(owned), entry.pos, event.subject, entry.fields, attempt, due)
        reach("retry.delayed")
        return answer

    async def park(
        self, owned: Owned, event: Recorded[Any], entry: Entry, attempts: int, parkings: int, reason: str
    ) -> int:
        """Leave an entry until a person says what is to become of it. LOST where fenced."""
        parked = EntryParked(
            group=self._group,
            position=entry.pos,
            attempts=attempts,
            reason=_told(reason),
            parking=parkings + 1,
        )
        await self._append(self._about(event, parked, parkings, owned), owned)
        _log.error("event parked", group=self._group, subject=event.subject, reason=reason)
        self._block(entry)
        account = _account(entry, event.subject, attempts, reason)
        reach("retry.told_parked")
        answer = await self._retries.park(self._fence(owned), entry.pos, event.subject, entry.fields, account)
        reach("retry.parked")
        return answer

    async def park_alone(self, fence: Fence, entry: Entry, reason: str) -> int:
        """Park an entry that cannot be decoded: it blocks nothing. LOST where fenced."""
        _log.error("undecodable entry parked", group=self._group, reason=reason)
        subject = alone(entry.pos)
        self.blocked.setdefault(entry.partition, set()).add(subject.encode())  # so that a replay is noticed
        return await self.park_again(fence, entry, subject, 0, reason)

    async def park_again(self, fence: Fence, entry: Entry, subject: str, attempts: int, reason: str) -> int:
        """Park an undecodable entry that was replayed. LOST where fenced."""
        account = _account(entry, subject, attempts, reason)
        return await self._retries.park(fence, entry.pos, subject, entry.fields, account)

    def _about(self, event: Recorded[Any], failure: Event, parkings: int, owned: Owned) -> NewEvent:
        return new_event(
            event.subject, failure, source=self._group, cause=event, ordinal=parkings, fence=self._fence(owned)
        )

    def _block(self, entry: Entry) -> None:
        self.blocked.setdefault(entry.partition, set()).add(entry.fields[b"subject"])


def _account(entry: Entry, subject: str, attempts: int, reason: str) -> dict[str, Any]:
    return {
        "subject": subject,
        "type": entry.fields.get(b"type", b"?").decode("utf-8", "replace"),
        "reason": _told(reason),
        "attempts": attempts,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _told(reason: str) -> str:
    """A reason as JSON can hold it: error messages may name files whose names are not UTF-8."""
    return reason[:REASON].encode("utf-8", "backslashreplace").decode()
