"""A watched root's start: the first scan of many files, and a later one that finds nothing new."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processors.registry import Registry
from processors.watching.roots import WatchedRoot
from projections.database import Database, open_database
from projections.projection import discover
from projections.queries import Catalogue
from projections.runner import Runner
from scripts.bench_parts import worlds
from scripts.bench_parts.processes import MIB, in_child, resident, run_loop
from scripts.bench_parts.rows import Row, Size
from streams.background import running
from streams.entries import NewEvent, new_event
from streams.events import FileSettled, VideoNumbered
from streams.identity import REGISTRY, watched_video_id
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings

BATCH = 500
WITHIN = 600.0
"""Seconds until a start is given up."""


def run(size: Size) -> list[Row]:
    """The first start, and the second."""
    files, folders = size.of(100, 20_000, 100_000), size.of(5, 100, 500)
    rounds = size.of(1, 3, 3)
    firsts: list[tuple[dict[str, float], float, float]] = []
    seconds: list[dict[str, float]] = []
    finds: list[float] = []
    with worlds.folder("scan") as place:
        root = place / "inbox"
        _fill(root, files, folders)
        for number in range(rounds):
            world = place / f"round {number}"
            settings = worlds.settings(world, watch=(root,))
            with worlds.redis(world) as server:
                run_loop(_prepare, settings, server.url)
                find = _find(root)
                start = in_child(_first, settings, server.url, files)
                with worlds.redis(world / "plain") as other:
                    appends = in_child(_appends, worlds.settings(world), other.url, str(root), files)
                firsts.append((start, appends, find))
                run_loop(_follow, settings, server.url, files)
                for _ in range(2):
                    finds.append(_find(root))
                    seconds.append(in_child(_second, settings, server.url))
    memory = max(one["memory"] for one in [*(start for start, _, _ in firsts), *seconds])
    bare = firsts[0][0]["bare"]
    alone = [start["seconds"] - appends for start, appends, _ in firsts]
    first = statistics.median(one / find for one, (_, _, find) in zip(alone, firsts, strict=True))
    second = statistics.median(one["seconds"] / find for one, find in zip(seconds, finds, strict=True))
    find = statistics.median([*finds, *(one for _, _, one in firsts)])
    whole = statistics.median(start["seconds"] for start, _, _ in firsts)
    return [
        Row(
            f"first start on {files:,} files in {folders} folders, without its {2 * files:,} appends",
            f"{statistics.median(alone):.2f} s (of {whole:.1f} s)",
            f"find -printf: {find:.2f} s",
            first,
            "≤ 20 ×",
            first <= 20,
        ),
        Row(
            "second start, nothing new",
            f"{statistics.median(one['seconds'] for one in seconds):.2f} s",
            f"find -printf: {find:.2f} s",
            second,
            "≤ 5 ×",
            second <= 5,
        ),
        Row(
            "memory of the watching process, at its most",
            f"{memory / MIB:.0f} MiB",
            f"before it starts: {bare / MIB:.0f} MiB",
            None,
            "< 300 MiB",
            memory < 300 * MIB,
        ),
    ]


def _fill(root: Path, files: int, folders: int) -> None:
    for folder in range(folders):
        place = root / f"folder {folder:04}"
        place.mkdir(parents=True)
        for number in range(files // folders):
            fd = os.open(place / f"clip {number:05}.mp4", os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"not much of a video")
            os.close(fd)


def _find(root: Path) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["find", str(root), "-type", "f", "-printf", "%P %s %T@ %D %i\\n"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


async def _prepare(settings: Settings, url: str) -> None:
    """Make the tables and open the registry, as the worker does before its sources start."""
    async with open_log(settings, url) as log, open_database(settings) as database:
        runner = Runner(log, database, discover(settings))
        async with running(runner.run()):
            await _applied(runner)
            await Registry(log, Catalogue(database, log), [str(settings.watch_roots[0])]).open()
            await _applied(runner)


async def _follow(settings: Settings, url: str, files: int) -> None:
    """Let the catalogue take in what the first start appended."""
    async with open_log(settings, url) as log, open_database(settings) as database:
        runner = Runner(log, database, discover(settings))
        async with running(runner.run()):
            await _applied(runner)
        found = await Catalogue(database).totals("watch")
        if found.count != files:
            raise RuntimeError(f"{found.count} of {files} files came into the catalogue")


async def _applied(runner: Runner) -> None:
    if not await runner.caught_up(WITHIN):
        raise RuntimeError(f"the projections did not catch up: {runner.status()}")


async def _first(settings: Settings, url: str, files: int) -> dict[str, float]:
    """Watch until every file is in the log."""

    async def done(log: Log, _: WatchedRoot) -> bool:
        return sum(await log.heads()) >= 2 * files + 2  # a number and a file each; the registry's and the root's first

    return await _started(settings, url, done, 0.05)


async def _second(settings: Settings, url: str) -> dict[str, float]:
    """Watch until the first scan was judged."""

    async def done(_: Log, watched: WatchedRoot) -> bool:
        return watched._look is not None  # noqa: SLF001 - set once a scan was judged; no one else need know

    return await _started(settings, url, done, 0.005)


async def _started(settings: Settings, url: str, done: Any, pause: float) -> dict[str, float]:
    import anyio._backends._asyncio  # noqa: F401 - what the watcher imports when first used: imports are not measured

    async with open_log(settings, url) as log, open_database(settings) as database:
        watched = _watched(log, settings, database)
        # A worker's projections have connected and caught up before its sources start.
        await Catalogue(database, log).caught_up(WITHIN)
        bare = peak = resident(os.getpid())
        deadline = time.monotonic() + WITHIN
        began = time.perf_counter()
        async with running(watched.run()):
            while not await done(log, watched):
                if time.monotonic() > deadline:
                    raise TimeoutError("the scan did not end")
                peak = max(peak, resident(os.getpid()))
                await asyncio.sleep(pause)
            seconds = time.perf_counter() - began
        return {"seconds": seconds, "memory": max(peak, resident(os.getpid())), "bare": bare}


def _watched(log: Log, settings: Settings, database: Database) -> WatchedRoot:
    return WatchedRoot(log, settings, str(settings.watch_roots[0]), Catalogue(database, log))


async def _appends(settings: Settings, url: str, root: str, files: int) -> float:
    """Seconds for the events of the first start alone, made beforehand, in the same batches and order."""
    ids = [watched_video_id(root, f"folder {number % 500:04}/clip {number // 500:05}.mp4") for number in range(files)]
    batches: list[Sequence[NewEvent]] = []
    for start in range(0, files, BATCH):
        part = ids[start : start + BATCH]
        batches.append([new_event(REGISTRY, VideoNumbered(video=video), source="watch") for video in part])
        batches.append([_settled(video, root, start + at) for at, video in enumerate(part)])
    async with open_log(settings, url) as log:
        began = time.perf_counter()
        for batch in batches:
            await log.append_all(batch)
        return time.perf_counter() - began


def _settled(video: str, root: str, number: int) -> NewEvent:
    event = FileSettled(
        root=OsPath(root),
        relative=OsPath(f"folder {number % 500:04}/clip {number // 500:05}.mp4"),
        number=number + 1,
        revision=1,
        size=19,
        modified_ns=1_700_000_000_123_456_789,
        device=65024,
        inode=1_000_000 + number,
    )
    return new_event(video, event, source="watch", expected=0)
