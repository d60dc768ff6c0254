"""From an append that changes a status to the WebSockets that are told of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import orjson

from scripts.bench_parts import worlds
from scripts.bench_parts.installed import Installed, spoolhouse_up
from scripts.bench_parts.processes import cpu_seconds, resident, run_loop
from scripts.bench_parts.rows import Row, Size, percentile
from streams.entries import new_event
from streams.events import AttemptFailed, VideoStored
from streams.identity import new_video_id
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.videos import make_video

READ = "metadata-extraction completed"
"""What the worker says of a new video; it then rests."""

RATE = 50
"""Events a second, each of one client's file."""

RATE_TO_ALL = 4
"""Events a second, each told to every client."""

WITHIN = 60.0
"""Seconds that anything may take."""


def run(size: Size) -> list[Row]:
    """Each client with a file of its own; then all of them hearing of everyone's."""
    seconds = size.of(1, 5, 20)
    rows: list[Row] = []
    with worlds.folder("live") as place, spoolhouse_up(place, SPOOLHOUSE_PREVIEWS="false") as running:
        settings = worlds.settings(place)
        clip = make_video(place / "clip.mp4", 0.5)
        for count in (1, size.of(2, 50, 50), size.of(3, 500, 500)):
            before = resident(running.api())
            waits, used = run_loop(_own_files, running, settings, clip, count, seconds)
            grown = (resident(running.api()) - before) / 2**20
            what = f"status → WebSocket, {RATE} events/s, {count} {'client' if count == 1 else 'clients'}, each of its own file"
            rows.append(_row(what, waits, f"API {100 * used:.0f} % of a core, {grown:+.0f} MiB"))
        waits, used = run_loop(_all_files, running, settings, clip, count, seconds)
        what = f"status → each of {count} WebSockets that hear of everyone's files, {RATE_TO_ALL} events/s"
        rows.append(_row(what, waits, f"API {100 * used:.0f} % of a core"))
    return rows


def _row(what: str, waits: list[float], more: str) -> Row:
    told = sorted(1000 * one for one in waits)
    p50, p99 = percentile(told, 50), percentile(told, 99)
    return Row(
        what,
        f"p99 {p99:.0f} ms (p50 {p50:.0f} ms, slowest {told[-1]:.0f} ms; {len(told)} messages; {more})",
        target="p99 < 100 ms",
        ok=p99 < 100,
    )


class _Clients:
    """Open WebSockets, and when each was told of which attempt."""

    def __init__(self, running: Installed, session: aiohttp.ClientSession) -> None:
        self._url, self._session = f"http://127.0.0.1:{running.port}/ws/", session
        self._heard: dict[tuple[str, str, str], asyncio.Future[float]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, stack: AsyncExitStack, client: str, query: str = "") -> None:
        socket = await stack.enter_async_context(self._session.ws_connect(self._url + client + query))
        self._tasks.append(asyncio.create_task(self._listen(client, socket)))

    def hears(self, client: str, video: str, what: str) -> asyncio.Future[float]:
        """When a client is told this of a video for the first time."""
        return self._heard.setdefault((client, video, what), asyncio.get_running_loop().create_future())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, client: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            at, told = time.perf_counter(), orjson.loads(message.data)
            for what in (f"{told['task']} {told['status']}", told["message"].split(" failed")[0]):
                if not (heard := self.hears(client, told["file_id"], what)).done():
                    heard.set_result(at)


async def _own_files(
    running: Installed, settings: Settings, clip: Path, count: int, seconds: int
) -> tuple[list[float], float]:
    """Seconds until each message, and the API's processor time in cores."""
    async with (
        open_log(settings, running.redis_url) as log,
        _session() as session,
        AsyncExitStack() as stack,
    ):
        clients = _Clients(running, session)
        stack.push_async_callback(clients.close)
        names = [f"bench-{count}-{n}" for n in range(count)]
        for name in names:
            await clients.open(stack, name)
        videos = [await _came_in(log, clip, name) for name in names]
        async with asyncio.timeout(10 * WITHIN):
            for name, video in zip(names, videos, strict=True):
                await clients.hears(name, video, READ)
        return await _measure(running, log, clients, videos, [[name] for name in names], seconds, RATE)


async def _all_files(
    running: Installed, settings: Settings, clip: Path, count: int, seconds: int
) -> tuple[list[float], float]:
    """The same, where each client is told of everything."""
    async with (
        open_log(settings, running.redis_url) as log,
        _session() as session,
        AsyncExitStack() as stack,
    ):
        clients = _Clients(running, session)
        stack.push_async_callback(clients.close)
        video = await _came_in(log, clip, "nobody")
        names = [f"page-{n}" for n in range(count)]
        for name in names:
            await clients.open(stack, name, "?all=1")
        async with asyncio.timeout(10 * WITHIN):
            for name in names:
                await clients.hears(name, video, READ)
        return await _measure(running, log, clients, [video], [names], seconds, RATE_TO_ALL)


def _session() -> aiohttp.ClientSession:
    """For any number of connections: usually it has a hundred."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def _measure(
    running: Installed,
    log: Log,
    clients: _Clients,
    videos: list[str],
    names: list[list[str]],
    seconds: int,
    rate: int,
) -> tuple[list[float], float]:
    waiting: list[asyncio.Task[list[float]]] = []
    before, began = cpu_seconds([running.api()]), time.perf_counter()
    for number in range(seconds * rate):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        which = number % len(videos)
        waiting.append(asyncio.create_task(_told(log, clients, videos[which], names[which], number + 1)))
    async with asyncio.timeout(WITHIN):
        waits = [wait for told in await asyncio.gather(*waiting) for wait in told]
    return waits, (cpu_seconds([running.api()]) - before) / (time.perf_counter() - began)


async def _told(log: Log, clients: _Clients, video: str, names: list[str], number: int) -> list[float]:
    """Seconds from handing in an event until each of these clients is told."""
    heard = [clients.hears(name, video, f"attempt {number}") for name in names]
    event = AttemptFailed(
        group="enhance", position=10**9 + number, attempt=number, reason="measured", retry_at=datetime.now(UTC)
    )
    began = time.perf_counter()
    await log.append(new_event(video, event, source="bench"))
    return [await one - began for one in heard]


async def _came_in(log: Log, clip: Path, client: str) -> str:
    """A video of this client, as the log has it; its id."""
    video, now = new_video_id(), datetime.now(UTC)
    event = VideoStored(
        door="upload",
        path=OsPath(str(clip)),
        stored_name=f"{video}.mp4",
        filename="clip.mp4",
        original_name="clip.mp4",
        label="",
        mime="video/mp4",
        size=clip.stat().st_size,
        sha256="0" * 64,
        received_at=now,
        modified_at=now,
        client_id=client,
    )
    await log.append(new_event(video, event, source="upload"))
    return video
