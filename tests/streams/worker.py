"""A worker in a process of its own, for tests that kill it: `python -m tests.streams.worker --help`.

It appends `--produce` events to each of `--subjects` subjects (harmless to repeat), handles what
comes, and answers every event. What the number of an event makes it do is said by the options.
Ends cleanly on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from streams.codec import Recorded
from streams.errors import LogUnavailableError, PoisonError, TransientError
from streams.events import Event
from streams.hosting import hosted
from streams.log import Log, open_log
from streams.processing import Context, Timer
from streams.settings import load_settings
from tests.streams.driving import Effects, answer, numbered, processor

T = TypeVar("T")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where effects are noted")
    parser.add_argument("--member", required=True)
    parser.add_argument("--group", default="test")
    parser.add_argument("--host", choices=("core", "faust"), default="core")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--ttl", type=float, default=1.0, help="of leases, seconds")
    parser.add_argument("--attempts", type=int, default=5)
    parser.add_argument("--drain", type=float, default=10.0, help="seconds")
    parser.add_argument("--produce", type=int, default=0, help="events for each subject")
    parser.add_argument("--subjects", type=int, default=0)
    parser.add_argument("--prefix", default="video", help="of the subjects' names")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between two appends")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that handling takes")
    parser.add_argument("--crash-on", type=int, default=-1, help="the number that kills the worker")
    parser.add_argument("--fail-on", type=int, default=-1, help="the number that fails at its first attempt")
    parser.add_argument("--poison-on", type=int, default=-1, help="the number that is parked at once, the first time")
    parser.add_argument("--tick-every", type=float, default=0.0, help="seconds between two runs of a timer; 0: none")
    parser.add_argument("--hang-on", type=int, default=-1, help="the number that takes a minute, once")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> None:
    """Work until SIGTERM."""
    settings = load_settings(
        data=asked.folder / "data",
        partitions=asked.partitions,
        lease_ttl=asked.ttl,
        attempts=asked.attempts,
        drain=asked.drain,
    )
    effects = Effects(asked.folder)
    effects.prepare()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def handle(event: Recorded[Any], context: Context) -> AsyncIterator[Event]:
        number = int(event.event.video)
        effects.started(event, asked.member)
        if number == asked.crash_on:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == asked.hang_on and not (asked.folder / "hung").exists():
            (asked.folder / "hung").touch()
            await asyncio.sleep(60)
        if number == asked.fail_on and context.attempt == 1:
            raise TransientError("it does not work the first time", retry_after=0.05)
        if number == asked.poison_on and not (asked.folder / "repaired").exists():
            raise PoisonError("it will never work")
        await asyncio.sleep(asked.pause)
        effects.do(event)
        yield answer(event)

    async def tick(_: Context) -> None:
        with (asked.folder / "ticks").open("a") as ticks:
            began = time.monotonic_ns()
            await asyncio.sleep(0.02)
            ticks.write(f"{asked.member} {began} {time.monotonic_ns()}\n")

    timers = (Timer("tick", tick, every=lambda _: asked.tick_every),) if asked.tick_every else ()
    async with open_log(settings, asked.url) as log:
        async with host(asked.host)(processor(handle, asked.group, timers=timers), log, {}, settings, asked.member):
            producing = asyncio.create_task(produce(log, asked))
            await stop.wait()
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)


def host(name: str) -> Any:
    """What runs the processor."""
    if name == "core":
        return hosted
    from streams.faust.hosting import hosted_by_faust

    return hosted_by_faust


async def produce(log: Log, asked: argparse.Namespace) -> None:
    """Append, one after the other, whatever becomes of Redis, until there are enough; goes on where it stopped.

    What Redis acknowledged is noted in `acknowledged-<prefix>`: it must never be lost.
    """
    subjects = [f"{asked.prefix}-{subject}" for subject in range(asked.subjects)]
    first = min([await persistently(lambda subject=subject: came(log, subject)) for subject in subjects], default=1)
    with (asked.folder / f"acknowledged-{asked.prefix}").open("a") as acknowledged:
        for number in range(max(1, first), asked.produce + 1):
            for subject in subjects:
                new = numbered(subject, number)
                await persistently(lambda new=new: log.append(new))
                acknowledged.write(f"{subject} {number}\n")
                acknowledged.flush()
                await asyncio.sleep(asked.pace)
            if (asked.folder / "enough").exists():
                break
    (asked.folder / f"produced-{asked.prefix}").touch()


async def came(log: Log, subject: str) -> int:
    """How many events a subject was given."""
    return sum(event.type == "VideoNumbered" for event in await log.history(subject))


async def persistently(work: Callable[[], Awaitable[T]]) -> T:
    """Until Redis is there."""
    while True:
        with contextlib.suppress(LogUnavailableError):
            return await work()
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(options()))
