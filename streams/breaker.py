"""A breaker for each dependency: while it is down, work pauses and no attempt is spent."""

from __future__ import annotations

import asyncio
import random
import time

import structlog

_log = structlog.get_logger(__name__)


class Breaker:
    """Closed: all pass. Open: all wait. After a while one may try; its result decides."""

    def __init__(self, name: str, *, first: float = 0.5, longest: float = 30.0) -> None:
        """`first` and `longest` are seconds between tries while it is open."""
        self.name, self._first, self._longest = name, first, longest
        self.reason: str | None = None
        """Why it is open; None while it is closed."""
        self.since: float | None = None
        """When it opened (epoch seconds)."""
        self._pause = first
        self._retry_at = 0.0
        self._trying = False
        self._changed = asyncio.Condition()

    async def admit(self, unless: asyncio.Event | None = None) -> bool:
        """Return when work may begin; follow up with `succeeded`, `failed` or `abandoned`.

        False: it may not, and need not wait any longer, since `unless` is set (and `recheck` was called).
        """
        if not self._is_open():
            return True
        async with self._changed:
            while self._is_open():
                if unless is not None and unless.is_set():
                    return False
                wait = self._retry_at - time.monotonic()
                if wait <= 0 and not self._trying:
                    self._trying = True
                    return True
                try:
                    async with asyncio.timeout(max(0.01, wait) if not self._trying else 5.0):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        return True

    async def recheck(self) -> None:
        """Let those who wait see that their `unless` is set."""
        await self._tell()

    async def succeeded(self) -> None:
        """The dependency answered: everyone may go on."""
        if self.reason is None:
            return
        _log.info("dependency is back", dependency=self.name, seconds=round(time.time() - (self.since or 0), 1))
        self.reason = self.since = None
        self._trying, self._pause = False, self._first
        await self._tell()

    async def failed(self, reason: str, retry_after: float | None = None) -> None:
        """The dependency did not answer: everyone waits, for `retry_after` seconds where that is known.

        Only the one that tried makes the pause longer: a crowd that was at work when it broke says
        the same thing many times.
        """
        if self.reason is not None and not self._trying:
            return
        if self.reason is None:
            self.since = time.time()
            _log.warning("dependency is down, work that needs it pauses", dependency=self.name, reason=reason)
        self.reason, self._trying = reason, False
        if retry_after is not None:
            self._retry_at = time.monotonic() + retry_after
        else:
            self._retry_at = time.monotonic() + random.uniform(self._pause / 2, self._pause)
            self._pause = min(self._longest, self._pause * 2)
        await self._tell()

    async def abandoned(self) -> None:
        """Whoever tried gave up without a result: the next may try."""
        if self._trying:
            self._trying = False
            await self._tell()

    def _is_open(self) -> bool:
        return self.reason is not None

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
