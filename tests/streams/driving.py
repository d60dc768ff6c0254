"""What the tests of the log and of consumer groups share: small events, worker processes, and checks.

`VideoNumbered` stands for anything that comes in and `EpochRaised` for anything that comes out of a
processor: both are small, and each of them has a number of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streams.codec import Recorded, recorded
from streams.entries import Entry, NewEvent, new_event
from streams.errors import LogUnavailableError
from streams.events import EpochRaised, Event, VideoNumbered
from streams.hosting import Host, hosted
from streams.log import Log, open_log
from streams.processing import Context, Processor
from streams.settings import Settings

ROOT = Path(__file__).parents[2]

PATIENCE = 60.0
"""Seconds that anything may take on a loaded machine before a test gives up."""


def numbered(subject: str, number: int, **options: Any) -> NewEvent:
    """The `number`-th thing that happens to a subject; the same one again has the same id."""
    return new_event(subject, VideoNumbered(video=str(number)), source="test", **options)


def answer(to: Recorded[Any]) -> EpochRaised:
    """What a processor of these tests says of an event."""
    return EpochRaised(epoch=int(to.event.video), reason="handled", reappended=0)


Handler = Callable[[Recorded[Any], Context], AsyncIterator[Any]]


def processor(handler: Handler, group: str = "test", **options: Any) -> Processor:
    """A processor of `VideoNumbered`, known to nobody else."""
    return Processor(group, frozenset({"VideoNumbered"}), handler, **options)


def answering(seen: list[Recorded[Any]] | None = None) -> Handler:
    """A handler that answers every event and notes it."""

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        if seen is not None:
            seen.append(event)
        yield answer(event)

    return handle


@asynccontextmanager
async def working(
    handler: Handler, settings: Settings, url: str, *, member: str = "worker-1", **options: Any
) -> AsyncIterator[Host]:
    """A worker with connections of its own, in this process."""
    async with open_log(settings, url) as log:
        async with hosted(processor(handler, **options), log, {}, settings, member) as host:
            yield host


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]], *, timeout: float = PATIENCE, every: float = 0.02
) -> Any:
    """Wait until the condition holds; answers with what it said. A log that is away just now says no."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(LogUnavailableError):
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come true within {timeout:g} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(every)


async def everything(log: Log) -> list[Entry]:
    """All entries of all partitions."""
    found: list[Entry] = []
    for partition in range(log.partitions):
        after = 0
        while entries := await log.read(partition, after=after, count=5000):
            found += entries
            after = entries[-1].pos
    return found


async def check_log(log: Log, *, quiet: bool = True) -> dict[str, list[Recorded[Any]]]:
    """Positions and versions are dense, no id stands twice; answers with every subject's history.

    `quiet`: nobody appends meanwhile.
    """
    histories: dict[str, list[Recorded[Any]]] = defaultdict(list)
    positions: dict[int, list[int]] = defaultdict(list)
    for entry in await everything(log):
        event = recorded(entry.partition, entry.pos, entry.fields)
        positions[entry.partition].append(entry.pos)
        histories[event.subject].append(event)
    for partition, found in positions.items():
        assert found == list(range(1, len(found) + 1)), f"positions of partition {partition} are not dense"
    for subject, events in histories.items():
        assert [event.ver for event in events] == list(range(1, len(events) + 1)), f"versions of {subject}"
        version = await log.version(subject)
        assert version == len(events) if quiet else version >= len(events)
    ids = [event.id for events in histories.values() for event in events]
    assert len(set(ids)) == len(ids), "an id stands in the log twice"
    return histories


def of_type(events: Iterable[Recorded[Any]], name: str) -> list[Recorded[Any]]:
    """Those of one type."""
    return [event for event in events if event.type == name]


async def pending(log: Log, group: str = "test") -> int:
    """How many entries Redis calls pending in a group."""
    total = 0
    for partition in range(log.partitions):
        if await log.redis.exists(log.keys.log(partition)):
            for found in await log.redis.xinfo_groups(log.keys.log(partition)):
                if found["name"] == group.encode():
                    total += found["pending"]
    return total


class WorkerProcess:
    """`tests.streams.worker` in a process of its own, which a test may stop, freeze and kill."""

    def __init__(self, url: str, folder: Path, *, member: str, crash_at: str = "", **options: Any) -> None:
        self.member = member
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLHOUSE_")}
        if crash_at:
            environment["SPOOLHOUSE_CRASH_AT"] = crash_at
        command = [sys.executable, "-m", "tests.streams.worker", "--url", url, "--folder", str(folder)]
        command += ["--member", member]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / f"{member}.log"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(30)

    @property
    def alive(self) -> bool:
        """Whether it runs (or is frozen)."""
        return self.process.poll() is None

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait(30)

    def stop(self, timeout: float = PATIENCE) -> None:
        """SIGTERM, and wait for a clean end."""
        self.process.terminate()
        assert self.process.wait(timeout) == 0, self.told()

    def end(self, timeout: float = PATIENCE) -> None:
        """SIGTERM, and wait; it may have come before the program knew what to do with it."""
        self.process.terminate()
        assert self.process.wait(timeout) in (0, -signal.SIGTERM), self.told()

    async def died(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; answers with the exit status (negative: the signal)."""
        await eventually(lambda: not self.alive, timeout=timeout)
        return self.process.returncode

    def told(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-4000:]


class Effects:
    """What workers did to the outside world: one file for each event, made once however often it is handled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "effects"
        self.starts_file = folder / "starts"

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def started(self, event: Recorded[Any], member: str) -> None:
        """Note that a handler began."""
        with self.starts_file.open("a") as file:
            file.write(f"{event.subject} {event.ver} {member}\n")

    def do(self, event: Recorded[Any]) -> None:
        """The effect. Doing it again does nothing."""
        if not (place := self.folder / event.id).exists():
            fresh = self.folder / f".{event.id}.{os.getpid()}"
            fresh.write_text(f"{event.subject} {event.ver} {time.monotonic_ns()}")
            try:
                os.link(fresh, place)
            except FileExistsError:
                raise AssertionError(f"{event.subject} {event.ver} was done by two workers at once") from None
            finally:
                fresh.unlink()

    def done(self) -> dict[str, list[int]]:
        """Each subject's versions in the order in which their effects came about."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place in self.folder.glob("[!.]*"):
            subject, ver, at = place.read_text().split()
            found[subject].append((int(at), int(ver)))
        return {subject: [ver for _, ver in sorted(times)] for subject, times in found.items()}

    def starts(self) -> list[tuple[str, int, str]]:
        """Every beginning of a handler: subject, version, member."""
        if not self.starts_file.exists():
            return []
        lines = [line.split() for line in self.starts_file.read_text().splitlines()]
        return [(subject, int(ver), member) for subject, ver, member in lines]
