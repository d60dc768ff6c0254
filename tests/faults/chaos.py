"""A while of bad luck: Redis and two workers are killed, frozen and restarted at random under load.

Then everything is put right, and: what was acknowledged is there, nothing is doubled, positions and
versions are dense, every event was handled once as seen from outside, in order, and answered once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from streams.log import Log, open_log
from streams.retries import Retries
from streams.settings import Settings
from tests.servers import RedisServer
from tests.streams.driving import Effects, WorkerProcess, check_log, eventually, of_type, pending

SUBJECTS = 6
"""Of each worker."""


@dataclass
class Figures:
    """What happened, for people."""

    seconds: float = 0.0
    settling: float = 0.0
    acknowledged: int = 0
    entries: int = 0
    handled: int = 0
    begun: int = 0
    doubles: int = 0
    parked_after_deaths: int = 0
    mishaps: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        mishaps = ", ".join(f"{count} × {what}" for what, count in sorted(self.mishaps.items()))
        return (
            f"{self.seconds:.0f} s of {mishaps}\n"
            f"{self.acknowledged} appends acknowledged ({self.acknowledged / self.seconds:.0f}/s), all there; "
            f"{self.entries} entries, dense; lost 0, doubled {self.doubles}\n"
            f"{self.handled} events handled, each effect once and in order; begun {self.begun} times "
            f"({self.begun - self.handled} again); parked after deaths and replayed: {self.parked_after_deaths}\n"
            f"all settled {self.settling:.1f} s after the last mishap"
        )


class Chaos:
    """One run."""

    def __init__(self, server: RedisServer, folder: Path, settings: Settings, rng: random.Random) -> None:
        self.server, self.folder, self.settings, self.rng = server, folder, settings, rng
        self.effects = Effects(folder)
        self.effects.prepare()
        self.figures = Figures()
        self.lives = Counter[str]()
        self.workers: dict[str, WorkerProcess] = {}

    def start(self, prefix: str) -> None:
        """A worker, in its next life."""
        self.lives[prefix] += 1
        options = {"produce": 1_000_000, "subjects": SUBJECTS, "pace": 0.002, "pause": 0.002, "ttl": 1.0}
        self.workers[prefix] = WorkerProcess(
            self.server.url,
            self.folder,
            member=f"{prefix}-{self.lives[prefix]}",
            prefix=prefix,
            attempts=20,
            **options,
        )

    async def run(self, seconds: float) -> Figures:
        """Bad luck for a while, then the checks."""
        began = time.monotonic()
        try:
            for prefix in ("one", "two"):
                self.start(prefix)
            while time.monotonic() - began < seconds:
                await asyncio.sleep(self.rng.uniform(0.05, 0.8))
                await self.mishap()
            self.figures.seconds = time.monotonic() - began
            await self.settle()
            self.figures.settling = time.monotonic() - began - self.figures.seconds
            for worker in self.workers.values():
                worker.stop()
            await self.check()
        finally:
            for worker in self.workers.values():
                worker.__exit__(None, None, None)
        return self.figures

    async def mishap(self) -> None:
        """One of them."""
        prefix = self.rng.choice(["one", "two"])
        away = self.rng.choice([0.0, 0.1, 0.5, 1.5])
        mishaps: list[tuple[str, Callable[[], None], Callable[[], object]]] = [
            ("Redis killed", self.server.kill, self.server.start),
            ("Redis stopped", self.server.stop, self.server.start),
            ("worker killed", self.workers[prefix].kill, lambda: self.start(prefix)),
            ("worker stopped", self.workers[prefix].end, lambda: self.start(prefix)),
            ("worker frozen", self.workers[prefix].freeze, self.workers[prefix].thaw),
        ]
        if self.rng.random() < 0.2:
            self.figures.mishaps["Redis frozen"] += 1
            with self.server.frozen():
                await asyncio.sleep(away)
            return
        what, begin, end = self.rng.choice(mishaps)
        self.figures.mishaps[what] += 1
        await asyncio.to_thread(begin)
        await asyncio.sleep(away)
        await asyncio.to_thread(end)

    async def settle(self) -> None:
        """No more comes, and everything is handled."""
        (self.folder / "enough").touch()
        async with open_log(self.settings, self.server.url) as log:
            await eventually(lambda: all((self.folder / f"produced-{prefix}").exists() for prefix in self.workers))
            await eventually(lambda: self.done(log), timeout=120 + self.figures.seconds, every=0.5)

    async def done(self, log: Log) -> bool:
        """Whether every event is handled."""
        retries = Retries(log.redis, log.keys, "test")
        for partition in range(log.partitions):
            for parked in await retries.parked(partition):
                assert "died" in parked.reason, parked.reason
                self.figures.parked_after_deaths += 1
                await retries.replay(parked)
        inputs = 0
        for prefix in self.workers:
            for subject in range(SUBJECTS):
                inputs += len(of_type(await log.history(f"{prefix}-{subject}"), "VideoNumbered"))
        handled = sum(len(vers) for vers in self.effects.done().values())
        return handled == inputs and not await pending(log)

    async def check(self) -> None:
        """Nothing lost, nothing doubled, all in order."""
        async with open_log(self.settings, self.server.url) as log:
            histories = await check_log(log)
        done = self.effects.done()
        there = {
            (subject, event.event.video)
            for subject, events in histories.items()
            for event in of_type(events, "VideoNumbered")
        }
        for prefix in self.workers:
            lines = (self.folder / f"acknowledged-{prefix}").read_text().splitlines()
            acknowledged = {tuple(line.split()) for line in lines}
            assert acknowledged <= there, f"acknowledged and lost: {sorted(acknowledged - there)}"
            self.figures.acknowledged += len(acknowledged)
        for subject, events in histories.items():
            inputs = of_type(events, "VideoNumbered")
            numbers = [int(event.event.video) for event in inputs]
            assert numbers == list(range(1, len(numbers) + 1)), subject
            assert done[subject] == [event.ver for event in inputs], f"{subject}: effects lost, doubled or out of order"
            answers = [event.event.epoch for event in of_type(events, "EpochRaised")]
            self.figures.doubles += len(answers) - len(set(answers))
            assert answers == numbers, f"{subject}: answers lost, doubled or out of order"
            self.figures.handled += len(numbers)
            self.figures.entries += len(events)
        self.figures.begun = len(self.effects.starts())
