"""From an append to an answer of the API, and what a Spoolhouse without work costs."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import aiohttp

from scripts.bench_parts import worlds
from scripts.bench_parts.installed import Installed, spoolhouse_up
from scripts.bench_parts.processes import cpu_seconds, run_loop
from scripts.bench_parts.rows import Row, Size, percentile
from streams.entries import NewEvent, new_event
from streams.events import RowAdopted
from streams.identity import adopted_row_id
from streams.log import Log, open_log
from streams.settings import Settings

RATE = 500
"""Events a second."""

TICK = 0.02
"""Seconds between two appends of `RATE * TICK` events."""

WATCHED = 25
"""Every how-manieth event is waited for: asking for each would measure the questions."""

POLL = 0.005
"""Seconds between two questions."""

GIVE_UP = 30.0


def run(size: Size) -> list[Row]:
    """Latency at a steady rate, then idle."""
    seconds, idle = size.of(1, 10, 30), size.of(1, 20, 20)
    with worlds.folder("visible") as place, spoolhouse_up(place) as running:
        settings = worlds.settings(place)
        latencies, rate = run_loop(_latencies, running, settings, seconds)
        time.sleep(size.of(0, 5, 5))  # what came in is worked through
        used = _idle(running, idle)
    waits = sorted(1000 * one for one in latencies)
    p50, p99 = percentile(waits, 50), percentile(waits, 99)
    return [
        Row(
            f"append → visible at `/api/videos/<id>`, {rate:.0f} events/s for {seconds} s, {len(waits)} of them asked for",
            f"p99 {p99:.0f} ms (p50 {p50:.0f} ms, slowest {waits[-1]:.0f} ms)",
            target="p99 < 250 ms",
            ok=p99 < 250,
        ),
        Row(
            f"idle: processor time of all {len(used)} processes over {idle} s",
            f"{100 * sum(used.values()) / idle:.1f} % of a core "
            f"({', '.join(f'{name} {100 * part / idle:.1f}' for name, part in sorted(used.items()))})",
            target="< 5 % of a core",
            ok=sum(used.values()) / idle < 0.05,
        ),
    ]


async def _latencies(running: Installed, settings: Settings, seconds: int) -> tuple[list[float], float]:
    """Seconds that the watched events took, and how many events a second were really appended."""
    waiting: list[asyncio.Task[float]] = []
    async with open_log(settings, running.redis_url) as log, aiohttp.ClientSession() as session:
        began = time.perf_counter()
        number, each = 0, round(RATE * TICK)
        for tick in range(round(seconds / TICK)):
            await asyncio.sleep(max(0.0, began + tick * TICK - time.perf_counter()))
            news = [_adopted(number + at) for at in range(each)]
            watched = [new.subject for at, new in enumerate(news) if (number + at) % WATCHED == 0]
            number += each
            waiting += [asyncio.create_task(_visible(session, running.port, video)) for video in watched]
            waiting.append(asyncio.create_task(_appended(log, news)))
        rate = number / (time.perf_counter() - began)
        return [one for one in await asyncio.gather(*waiting) if one >= 0], rate


async def _appended(log: Log, news: list[NewEvent]) -> float:
    await log.append_all(news)
    return -1.0


async def _visible(session: aiohttp.ClientSession, port: int, video: str) -> float:
    """Seconds from now, when the append is handed in, until the API shows the video."""
    began = time.perf_counter()
    while True:
        async with session.get(f"http://127.0.0.1:{port}/api/videos/{video}") as answer:
            if answer.status == 200:
                return time.perf_counter() - began
        if time.perf_counter() - began > GIVE_UP:
            return GIVE_UP
        await asyncio.sleep(POLL)


def _adopted(number: int) -> NewEvent:
    """A first event that makes a row and gives no processor work."""
    event = RowAdopted(
        number=1_000_000 + number,
        main_dir="/srv/media",
        path=f"/srv/media/bench/clip {number}.mp4",
        url=f"http://127.0.0.1/bench/clip%20{number}.mp4",
        status=1,
        created="2025-01-02 03:04:05",
    )
    return new_event(adopted_row_id(1_000_000 + number), event, source="bench")


def _idle(running: Installed, seconds: float) -> dict[str, float]:
    """Processor seconds of each process over so many seconds of wall time."""
    pids = running.processes()
    before = {pid: cpu_seconds([pid]) for pid in pids}
    time.sleep(seconds)
    names = {pid: _name(pid) for pid in pids}
    used: dict[str, float] = {}
    for pid in running.processes():
        name = names.get(pid, "later child")
        used[name] = used.get(name, 0.0) + cpu_seconds([pid]) - before.get(pid, 0.0)
    return used


def _name(pid: int) -> str:
    """`api`, `worker`, `up`, `redis-server`, …: what tells the processes apart."""
    words = [word.decode(errors="replace") for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]
    for before, word in pairwise(words):
        if before in {"api.cli", "-m"} and word != "api.cli":
            return word
    return words[0].split()[0].rsplit("/", 1)[-1] if words else str(pid)
