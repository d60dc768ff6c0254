"""One projection following the log: fetch, fold, commit, go on; wait where something is down."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from projections import checkpoints, rebuild, versions
from projections.checkpoints import Checkpoint, CheckpointMovedError, Place
from projections.database import Database
from projections.dialects import exclusive
from projections.feed import WINDOW, Feed, Step, Unreadable, step_id
from projections.projection import OwnedElsewhereError, Projection
from projections.tables import Tables
from streams.background import stop_if_cancelled
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import DependencyDownError, GateClosedError, InapplicableError, LogUnavailableError, SpoolhouseError

log = structlog.get_logger(__name__)

BATCH = 2000
"""Events of one transaction at the most."""

PACE = 0.03
"""Seconds between two transactions of a projection that keeps up."""

FLUSH = 1.0
"""Seconds between two writes of a checkpoint that only passed over events nobody wanted."""

RETRY = 30.0
"""Seconds until a projection that stopped tries again."""


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """What a projection is doing."""

    name: str
    version: int
    positions: tuple[int, ...]
    """Applied up to here, for each partition."""
    lag: int
    """Entries of the log that are not applied yet."""
    waiting: str | None
    """What it waits for (a dependency that is down, a rebuild); it goes on by itself."""
    stopped: str | None
    """Why it stopped: a person has to help. It tries again now and then all the same."""
    gate: bool
    """It stopped because the log lost its tail."""
    standby: bool = False
    """Another process does its work; this one takes over when that ends."""


class Follower:
    """Keeps one projection's live tables up to date."""

    def __init__(self, feed: Feed, database: Database, projection: Projection, moved: asyncio.Condition) -> None:
        self.projection = projection
        self.tables = Tables(projection.name, projection.tables)
        self.build = versions.build_of(projection)
        self.epoch = 0
        self.positions = [0] * feed.log.partitions
        self.retry = RETRY
        self.waiting: str | None = "starting"
        self.stopped: str | None = None
        self.gate = self.standby = False
        self._feed, self._database, self._moved = feed, database, moved
        self._places = [Place(0)] * feed.log.partitions
        self._durable = list(self._places)
        self._stored_at = self._mirrored_at = 0.0
        self._mirrored: list[int] = []
        self._again = asyncio.Event()
        # Held while a batch is applied: whoever has it knows that the live tables stand still.
        self._still = asyncio.Lock()
        self._prepared = self._swapped = self._served = False

    def status(self) -> ProjectionStatus:
        """What it is doing now."""
        lag = sum(max(0, head - pos) for head, pos in zip(self._feed.heads, self.positions, strict=True))
        return ProjectionStatus(
            self.projection.name,
            self.projection.version,
            tuple(self.positions),
            lag,
            self.waiting or self._feed.down,
            self.stopped,
            self.gate,
            self.standby,
        )

    async def run(self) -> None:
        """Follow until cancelled. Nothing that goes wrong ends it."""
        faults = 0
        try:
            while True:
                stop_if_cancelled()
                try:
                    await self._open()
                    faults = 0
                    await self._follow()
                except (DependencyDownError, LogUnavailableError) as error:
                    faults += 1
                    self.standby = isinstance(error, OwnedElsewhereError)
                    if self.waiting != str(error):
                        log.warning("projection waits", projection=self.projection.name, reason=str(error))
                    self.waiting = str(error)
                    await self._tell()
                    await self._pause(min(5.0, 0.1 * 2**faults) * random.uniform(0.5, 1))
                except CheckpointMovedError as error:
                    log.info("checkpoint was moved by another reader", projection=self.projection.name, was=str(error))
                    await self._pause(random.uniform(0.05, 0.3))
                except GateClosedError as error:
                    self._stop(str(error), gate=True)
                    await self._pause(self.retry)
                except Exception as error:  # noqa: BLE001 # whatever it is stops this projection only, and is said
                    self._stop(str(error) if isinstance(error, SpoolhouseError) else f"{type(error).__name__}: {error}")
                    await self._pause(self.retry)
        finally:
            self.projection.closed()

    def try_again(self) -> None:
        """Do not wait any longer."""
        self._again.set()

    def look_again(self) -> None:
        """Load the checkpoint anew and compare it with the log, whatever was found before."""
        self.waiting, self.stopped, self.gate = "starting", None, False
        self._swapped = True
        self._again.set()

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[None]:
        """Nothing is applied to the live tables (by this process) while the body runs."""
        async with self._still:
            yield
            self._swapped, self._prepared = True, False

    async def _open(self) -> None:
        """Make what is missing, rebuild what is of another version, and check the log against the checkpoint."""
        if self._served:
            await self._check_still_ours()
        if not self._prepared:
            async with exclusive(self._database, self.projection.name), self._still:
                if await rebuild.prepare(self._database, self._feed.log, self.projection, self.tables):
                    # What the former tables know may be more than this log does: then it is the gate's turn.
                    async with self._database.reading() as conn:
                        former = await checkpoints.load_if_there(conn, self.tables.checkpoint)
                    if former is not None:
                        await self._compare(former)
                    self.waiting = "it is being rebuilt; the former version serves until then"
                    builder = rebuild.Rebuild(self._feed.log, self._database, self.projection)
                    await builder.build()
                    await builder.swap(self.tables)
                await self.projection.prepare(self._database, self.tables)
            self._prepared = True
        async with self._still:
            self._swapped = False
            self.tables.cache.clear()
            async with self._database.transaction() as conn:
                checkpoint = await checkpoints.load(conn, self.tables.checkpoint)
                await self.projection.opened(conn, self.tables)
            if checkpoint.build != self.build:
                self._prepared = False
                raise CheckpointMovedError(f"the tables are of version {checkpoint.build}")
            await self._compare(checkpoint)
            self.epoch = checkpoint.epoch
            self._places, self._durable = list(checkpoint.places), list(checkpoint.places)
            self.positions = [place.pos for place in self._places]
        self.waiting = self.stopped = None
        self.gate, self.standby, self._served = False, False, True
        await self._tell()

    async def _check_still_ours(self) -> None:
        """Two versions that run side by side must not rebuild each other's tables for ever: the older one stops."""
        async with self._database.reading() as conn:
            checkpoint = await checkpoints.load_if_there(conn, self.tables.checkpoint)
        if checkpoint is not None and checkpoint.build != self.build:
            raise InapplicableError(
                "a Spoolhouse of another version, or with other settings, has taken over its tables: "
                "end this process, or restart it to take them back"
            )

    async def _compare(self, checkpoint: Checkpoint) -> None:
        """Raise GateClosedError unless the log is the one that the checkpoint was taken of."""
        self._feed.trust()
        epoch = await self._feed.log.epoch()
        if checkpoint.epoch != epoch:
            raise GateClosedError(
                f"{self.projection.name} stands in epoch {checkpoint.epoch} of a log in epoch {epoch}"
            )
        for partition, place in enumerate(checkpoint.places):
            await self._feed.verify(partition, place)

    async def _follow(self) -> None:
        while True:
            stop_if_cancelled()
            began = time.monotonic()
            if self._swapped:
                raise CheckpointMovedError("the tables were swapped")
            self._feed.trust()
            if await self._feed.beyond(self.positions, FLUSH):
                await self._cycle()
            elif self._places != self._durable:
                async with self._still:
                    await self._commit(self._places, [])
            await self._mirror()
            if sum(self._feed.heads) - sum(self.positions) < BATCH:
                await asyncio.sleep(max(0.0, PACE - (time.monotonic() - began)))

    async def _cycle(self) -> None:
        """Fetch a batch, and apply it in one transaction."""
        async with self._still:
            if self._swapped:
                return
            places = list(self._places)
            events: list[Recorded[Any]] = []
            unreadable: Unreadable | None = None
            first = random.randrange(len(places))
            for partition in (*range(first, len(places)), *range(first)):
                if self._feed.heads[partition] <= self._places[partition].pos or len(events) >= BATCH:
                    continue
                steps = await self._feed.read(partition, self._places[partition], min(WINDOW, BATCH - len(events)))
                last, found, fault = readable(steps)
                if last is not None:
                    places[partition] = last
                events += [one for one in found if self.projection.wants(one)]
                unreadable = unreadable or fault
            idle = not events and time.monotonic() - self._stored_at < FLUSH
            if places != self._places:
                if idle:
                    self._places = places
                else:
                    await self._commit(places, events)
                self.positions = [place.pos for place in self._places]
                await self._tell()
            if unreadable is not None:
                raise InapplicableError(
                    f"entry {unreadable.pos} of partition {unreadable.partition:02d} is ours but cannot be read: {unreadable.reason}"
                )

    async def _commit(self, places: list[Place], events: list[Recorded[Any]]) -> None:
        moves = {
            partition: (last, place)
            for partition, (last, place) in enumerate(zip(self._durable, places, strict=True))
            if last != place
        }
        try:
            async with self._database.transaction() as conn:
                await checkpoints.advance(conn, self.tables.checkpoint, self.epoch, self.build, moves)
                reach("projection.moved")
                if events:
                    await self.projection.apply(conn, self.tables, events)
                reach("projection.applied")
        except BaseException:
            self.tables.cache.clear()
            raise
        reach("projection.committed")
        self._places, self._durable = places, list(places)
        self._stored_at = time.monotonic()

    async def _mirror(self) -> None:
        positions = [place.pos for place in self._durable]
        if positions != self._mirrored and time.monotonic() - self._mirrored_at >= 1:
            await self._feed.log.mirror(f"projection.{self.projection.name}", positions)
            self._mirrored, self._mirrored_at = positions, time.monotonic()

    def _stop(self, reason: str, *, gate: bool = False) -> None:
        if self.stopped != reason:
            log.error("projection stopped", projection=self.projection.name, reason=reason)
        self.waiting, self.stopped, self.gate, self.standby = None, reason, gate, False

    async def _pause(self, seconds: float) -> None:
        self._again.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            pass

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()


def readable(steps: Sequence[Step]) -> tuple[Place | None, list[Recorded[Any]], Unreadable | None]:
    """The last place that can be reached in `steps`, the events up to it, and what stands in the way."""
    last: Place | None = None
    events: list[Recorded[Any]] = []
    for step in steps:
        if isinstance(step, Unreadable):
            if step.ours:
                return last, events, step
        else:
            events.append(step)
        last = Place(step.pos, step_id(step))
    return last, events, None
