"""One reader of the log for all projections: each entry is fetched and decoded once.

It keeps the last entries of each partition. A projection that is further behind reads past it.
It also checks, with every read, that the log still holds what was read last: a log that lost its
tail is noticed before anything is applied.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from projections.checkpoints import Place
from streams.background import stop_if_cancelled
from streams.codec import Recorded, recorded
from streams.errors import GateClosedError, LogUnavailableError, UndecodableError
from streams.log import Entry, Log

log = structlog.get_logger(__name__)

WINDOW = 500
"""Entries of each partition that are kept."""

PACE = 0.02
"""Seconds between two looks at a busy log."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that is no event."""

    partition: int
    pos: int
    id: str
    reason: str
    ours: bool
    """The append script wrote it, so something is missing here; else a person put it in."""


Step = Recorded[Any] | Unreadable


def entry_id(entry: Entry) -> str:
    """The event id of an entry, as checkpoints hold it (what people put in may have any)."""
    return entry.fields.get(b"id", b"").decode("ascii", "replace")[:64].replace("\ufffd", "?")


async def decode(source: Log, entry: Entry) -> Step:
    """The event in an entry, or why there is none."""
    try:
        return recorded(entry.partition, entry.pos, entry.fields)
    except UndecodableError as error:
        ours = await source.is_ours(entry)
        if not ours:
            log.warning("stepped over a foreign entry", partition=entry.partition, pos=entry.pos, reason=error.reason)
        return Unreadable(entry.partition, entry.pos, entry_id(entry), error.reason, ours)


def step_id(step: Step) -> str:
    """The id by which a checkpoint knows the step."""
    return step.id[:64]


class _Window:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.positions: list[int] = []
        self.lock = asyncio.Lock()


class Feed:
    """Reads the log for every follower of this process. `run` must run."""

    def __init__(self, source: Log) -> None:
        self.log = source
        self.heads = [0] * source.partitions
        self.down: str | None = None
        """Why the log cannot be read just now."""
        self.lost: str | None = None
        """Why the log is not to be trusted any more; until `reset`."""
        self.foreign = 0
        """Entries that people put in and that were stepped over."""
        self._windows = [_Window() for _ in range(source.partitions)]
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Follow the heads until cancelled."""
        while True:
            stop_if_cancelled()
            try:
                heads = await self.log.heads()
            except LogUnavailableError as error:
                if self.down is None:
                    log.warning("log cannot be reached", error=str(error))
                self.down = str(error)
                await asyncio.sleep(0.5)
                continue
            if self.down is not None:
                log.info("log can be reached again")
                self.down = None
            for partition, (new, known) in enumerate(zip(heads, self.heads, strict=True)):
                if new < known:
                    self._close(f"partition {partition:02d} ends at {new}, but {known} was read from it")
            if heads != self.heads:
                self.heads = heads
                self._moved.set()
                self._moved = asyncio.Event()
                await asyncio.sleep(PACE)
            await self.log.wait_beyond(self.heads, timeout=1.0)

    async def beyond(self, positions: Sequence[int], timeout: float) -> bool:
        """Wait for entries beyond these positions; False when time is up."""
        try:
            async with asyncio.timeout(timeout):
                while not any(head > pos for head, pos in zip(self.heads, positions, strict=True)):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def read(self, partition: int, place: Place, count: int) -> list[Step]:
        """What stands beyond a place that was reached, oldest first, at most `count`.

        Raises LogUnavailableError, and GateClosedError where the log no longer holds what was read.
        """
        window, after = self._windows[partition], place.pos
        async with window.lock:
            self.trust()
            if window.positions and window.positions[0] <= after < window.positions[-1]:
                start = bisect_right(window.positions, after)
                return window.steps[start : start + count]
            if window.positions and after < window.positions[0]:
                return await self._beyond(partition, place, count)
            steps = await self._beyond_window(partition, window, place, count)
            window.steps = (window.steps + steps)[-WINDOW:]
            window.positions = [step.pos for step in window.steps]
            return steps

    async def verify(self, partition: int, place: Place) -> None:
        """Raise GateClosedError unless the log has this event at this position."""
        if place.pos:
            found = await self.log.read(partition, after=place.pos - 1, count=1)
            if not found or found[0].pos != place.pos or entry_id(found[0]) != place.event_id:
                stands = "nothing" if not found else f"event {entry_id(found[0])} at {found[0].pos}"
                raise GateClosedError(
                    f"position {place.pos} of partition {partition:02d} held event {place.event_id} and now there is "
                    f"{stands}: the log lost its tail"
                )

    def trust(self) -> None:
        """Raise GateClosedError once the log was found to have lost its tail."""
        if self.lost is not None:
            raise GateClosedError(self.lost)

    def reset(self) -> None:
        """Trust the log again: the gate has done its work."""
        self.lost = None
        self.heads = [0] * self.log.partitions
        for window in self._windows:
            window.steps, window.positions = [], []

    async def _beyond_window(self, partition: int, window: _Window, place: Place, count: int) -> list[Step]:
        if not window.steps or window.positions[-1] != place.pos:
            window.steps, window.positions = [], []
            return await self._beyond(partition, place, count)
        last = window.steps[-1]
        return await self._beyond(partition, Place(last.pos, step_id(last)), count)

    async def _beyond(self, partition: int, place: Place, count: int) -> list[Step]:
        """Read on from a place that still holds what was read there: else the log is another one by now."""
        if not place.pos:
            return await self._decoded(await self.log.read(partition, after=0, count=count))
        entries = await self.log.read(partition, after=place.pos - 1, count=count + 1)
        if not entries or entries[0].pos != place.pos or entry_id(entries[0]) != place.event_id:
            self._close(f"position {place.pos} of partition {partition:02d} no longer holds event {place.event_id}")
            self.trust()
        return await self._decoded(entries[1:])

    async def _decoded(self, entries: Sequence[Entry]) -> list[Step]:
        steps = [await decode(self.log, entry) for entry in entries]
        self.foreign += sum(isinstance(step, Unreadable) and not step.ours for step in steps)
        return steps

    def _close(self, reason: str) -> None:
        self.lost = f"{reason}: the log lost its tail"
        log.error("log lost its tail", reason=reason)
