"""What happens when the log turns out to have lost its tail.

Redis can come back with less than it acknowledged: a cut append-only file, a stale replica, an
empty volume. Projections notice, because a checkpoint names a position and the event that stands
there. They stop, and the gate does the rest, in this order: the epoch is raised, so that no old
checkpoint is taken for a new one; what other places still know (sidecars of stored videos, the
numbers in the catalogue) is appended again under the same ids; the projections are rebuilt; and the
log itself says that all this happened. Uploads are taken all the while.

Of several workers one does this, under a lease; the others wait for it and then look again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from streams.background import running, stop_if_cancelled
from streams.crashpoints import reach
from streams.entries import new_event
from streams.errors import DependencyDownError, LogUnavailableError
from streams.events import EpochRaised
from streams.keys import partition_of
from streams.leases import Lease, Leases
from streams.log import Log

SUBJECT = "sys:log"

AGREEING = 5
"""Looks whether all is well again after another worker put things right, before it is done once more."""

_log = structlog.get_logger(__name__)

Restorer = Callable[[], Awaitable[int]]
"""Appends again what one other place still knows; answers with how many events that were."""


class Rebuildable(Protocol):
    """The projections, as the gate sees them."""

    @property
    def gate_closed(self) -> str | None:
        """Why they refuse to go on with this log; None: all is well."""
        ...

    async def highest_epoch(self) -> int:
        """The highest epoch that any checkpoint names."""
        ...

    async def rebuild_all(self) -> None:
        """Fold everything anew from the log."""
        ...

    async def agree(self) -> bool:
        """Compare all checkpoints with the log once more: whether they fit by now."""
        ...


class Gate:
    """Watches for a lost tail and puts things right. `run` must be running."""

    def __init__(
        self, log: Log, projections: Rebuildable, restorers: Sequence[Restorer], member: str, ttl: float = 10.0
    ) -> None:
        """`member` is this worker's name, `ttl` (seconds) how long another waits for one that died in the middle."""
        self._log, self._projections, self._restorers = log, projections, restorers
        self._leases = Leases(log.redis, log.keys, "gate", member, ttl)
        self._epoch: int | None = None
        """That of the log when the gate was last opened."""
        self._open = asyncio.Event()
        self._closing = asyncio.Event()
        self.reason: str | None = "the log has not been compared with the checkpoints yet"
        """Why the gate is closed; None while it is open."""

    async def run(self, started: Callable[[], Awaitable[bool]]) -> None:
        """Open the gate once all projections have `started`; close and reopen it whenever needed."""
        while True:
            stop_if_cancelled()
            closed = self._projections.gate_closed
            if closed:
                await self._reopen(closed)
            elif not self._open.is_set() and await started():
                with contextlib.suppress(LogUnavailableError):
                    self._epoch = await self._log.epoch()
                self._let_in()
            await asyncio.sleep(0.2)

    async def opened(self) -> asyncio.Event:
        """Wait until the gate is open. The event is set once it closes: stop then, and wait here again."""
        await self._open.wait()
        return self._closing

    def _let_in(self) -> None:
        self.reason = None
        self._closing = asyncio.Event()
        self._open.set()

    async def _reopen(self, reason: str) -> None:
        self._open.clear()
        self._closing.set()
        self.reason = reason
        _log.error("the log lost its tail: the gate is closed", reason=reason)
        pause = 0.5
        while True:
            stop_if_cancelled()
            try:
                async with self._alone() as ours:
                    if ours:
                        await self._put_right(reason)
                        return
                self.reason = f"{reason}; another worker puts it right"
                await asyncio.sleep(0.5)
            except (LogUnavailableError, DependencyDownError) as error:
                self.reason = f"{reason}; putting it right waits: {error}"
                _log.warning("the gate stays closed", error=str(error))
                await asyncio.sleep(pause)
                pause = min(10.0, pause * 2)

    async def _put_right(self, reason: str) -> None:
        epoch = await self._log.epoch()
        if self._epoch is not None and epoch > self._epoch and await self._agree():
            _log.info("the gate is open again: another worker put things right", epoch=epoch)
        else:
            epoch = max(epoch, await self._projections.highest_epoch()) + 1
            await self._log.prepare()
            await self._log.raise_epoch(epoch)
            reach("gate.raised")
            reappended = 0
            for restore in self._restorers:
                reappended += await restore()
            reach("gate.restored")
            await self._projections.rebuild_all()
            reach("gate.rebuilt")
            raised = EpochRaised(epoch=epoch, reason=reason, reappended=reappended)
            await self._log.append(new_event(SUBJECT, raised, source="gate"))
            _log.warning("the gate is open again", epoch=epoch, reappended=reappended, reason=reason)
        self._epoch = epoch
        self._let_in()

    async def _agree(self) -> bool:
        """Whether what another worker did holds for us, too: our readers may find its tables a moment later."""
        for _ in range(AGREEING):
            if await self._projections.agree():
                return True
            await asyncio.sleep(0.3)
        return False

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """Whether it is we who put things right: nobody else does during the body."""
        lease = await self._leases.acquire(partition_of("gate", self._log.partitions))
        if lease is None:
            yield False
            return
        async with running(self._keep(lease)):
            try:
                yield True
            finally:
                with contextlib.suppress(LogUnavailableError):
                    await self._leases.release(lease)

    async def _keep(self, lease: Lease) -> None:
        while True:
            stop_if_cancelled()
            await asyncio.sleep(self._leases.ttl / 3)
            # Once it is lost another begins anew, with a higher epoch: no harm, only work done twice.
            with contextlib.suppress(LogUnavailableError):
                await self._leases.renew([lease])
