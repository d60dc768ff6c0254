"""Files on their way to readers: slow ones, ones that leave, and files that change meanwhile. On both event loops."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from api import sending
from api.opening import OpenFile
from scripts.bench_parts.processes import MIB, resident
from scripts.bench_parts.serving import VIDEO as BENCH_VIDEO
from streams.settings import Settings
from tests.api.films import VIDEO, Films, running_films
from tests.api.running import until
from tests.servers import RedisServer

LARGE = 24 * MIB
"""More than the sockets of both ends take in."""

Scenario = Callable[[Films], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, make_settings: Callable[..., Settings], redis_url: str) -> Play:
    """Runs a scenario with a server, on each event loop that the product may run on."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            async with asyncio.timeout(120), running_films(make_settings(redis_url=redis_url, drain=0.5)) as films:
                await scenario(films)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


@asynccontextmanager
async def asking(films: Films, more: str = "", times: int = 1) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which the film was asked for; little of it is read ahead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", films.api.port, limit=2**16)
    writer.write(f"GET /processed_videos/{VIDEO} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode() * times)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def headers_of(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """All that still comes; a connection that is reset ends it as well."""
    got = bytearray()
    try:
        while piece := await asyncio.wait_for(reader.read(2**18), 60):
            got += piece
    except ConnectionError:
        pass
    return bytes(got)


def test_a_slow_reader_gets_every_byte(play: Play, rng: random.Random) -> None:
    content = rng.randbytes(LARGE)

    async def scenario(films: Films) -> None:
        films.put(content)
        async with asking(films, "Connection: close\r\n") as reader:
            assert b" 200 " in await headers_of(reader)
            got = bytearray()
            for _ in range(20):
                got += await reader.readexactly(10_000)
                await asyncio.sleep(0.01)
            assert bytes(got) + await rest_of(reader) == content

    play(scenario)


def test_one_connection_plays_on(play: Play, rng: random.Random) -> None:
    """Several ranges, asked for at once or one by one, come whole and in order."""
    content = rng.randbytes(LARGE)

    async def scenario(films: Films) -> None:
        films.put(content)
        async with asking(films, "Range: bytes=1000-9000000\r\n", times=3) as reader:
            for _ in range(3):
                assert b" 206 " in await headers_of(reader)
                assert await asyncio.wait_for(reader.readexactly(8_999_001), 60) == content[1000:9_000_001]
        for _ in range(3):
            async with films.api.session.get(f"{films.api.url}/processed_videos/{VIDEO}") as answer:
                assert await answer.read() == content

    play(scenario)


def test_a_file_that_is_replaced_is_sent_as_it_was(play: Play, rng: random.Random) -> None:
    """The one that was promised: a newer one under its name is another file."""
    content = rng.randbytes(LARGE)

    async def scenario(films: Films) -> None:
        one = films.put(content)
        async with asking(films, "Connection: close\r\n") as reader:
            await headers_of(reader)
            start = await reader.readexactly(1000)
            newer = films.folder / "newer"
            newer.write_bytes(rng.randbytes(LARGE))
            newer.replace(one.path)
            assert start + await rest_of(reader) == content

    play(scenario)


@pytest.mark.parametrize("change", ["cut", "emptied", "overwritten", "appended"])
def test_a_file_that_changes_breaks_the_connection(play: Play, rng: random.Random, change: str) -> None:
    """Neither a wait without end nor a film that looks whole."""
    content = rng.randbytes(LARGE)

    async def scenario(films: Films) -> None:
        one = films.put(content)
        async with asking(films, "Connection: keep-alive\r\n") as reader:
            await headers_of(reader)
            await reader.readexactly(1000)
            await asyncio.sleep(0.05)  # the clock of the file system ticks on
            with Path(one.path).open("r+b") as file:
                if change in {"cut", "emptied"}:
                    file.truncate(LARGE // 2 if change == "cut" else 0)
                else:
                    file.seek(0 if change == "overwritten" else LARGE)
                    file.write(rng.randbytes(LARGE if change == "overwritten" else 1))
            assert 1000 + len(await rest_of(reader)) < LARGE
        async with films.api.session.get(f"{films.api.url}/healthz") as answer:
            assert answer.status == 200

    play(scenario)


def test_readers_that_leave_cost_nothing(play: Play, rng: random.Random) -> None:
    """However they leave: no descriptor and no task stays behind."""

    async def scenario(films: Films) -> None:
        films.put(rng.randbytes(LARGE))
        await asyncio.sleep(0)
        before, tasks = open_files(), len(asyncio.all_tasks())
        for number in range(30):
            async with asking(films) as reader:
                if number % 3:
                    await headers_of(reader)
                if number % 3 == 2:
                    await reader.readexactly(100_000)
        await until(lambda: open_files() <= before and len(asyncio.all_tasks()) <= tasks)

    play(scenario)


def test_a_reader_that_takes_nothing_is_let_go(play: Play, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long while; here it is a short one."""
    monkeypatch.setattr(sending, "STALLED", 0.3)

    async def scenario(films: Films) -> None:
        films.put(rng.randbytes(LARGE))
        async with asking(films) as reader:
            await headers_of(reader)
            await asyncio.sleep(1.5)
            assert len(await rest_of(reader)) < LARGE

    play(scenario)


def test_a_server_that_ends_does_not_wait_for_ever(play: Play, rng: random.Random) -> None:
    """A stream under way gets the drain time, then it is broken off."""
    reader = socket.socket()
    reader.settimeout(0)

    async def scenario(films: Films) -> None:
        films.put(rng.randbytes(LARGE))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", films.api.port))
        await loop.sock_sendall(reader, f"GET /processed_videos/{VIDEO} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await loop.sock_recv(reader, 1000)).startswith(b"HTTP/1.1 200")

    with reader:
        play(scenario)
        reader.settimeout(30)
        got = 0
        while piece := reader.recv(2**20):
            got += len(piece)
    assert got < LARGE


@pytest.mark.parametrize("cannot_tell", [False, True])
def test_a_file_that_is_not_in_memory(
    play: Play, rng: random.Random, monkeypatch: pytest.MonkeyPatch, cannot_tell: bool
) -> None:
    """The disk is waited for beside the loop; some file systems cannot say whether that is so."""
    content = rng.randbytes(LARGE)
    if cannot_tell:
        monkeypatch.setattr(OpenFile, "at_hand", lambda *_: False)
        monkeypatch.setattr(OpenFile, "read_cached", lambda *_: None)

    async def scenario(films: Films) -> None:
        one = films.put(content)
        descriptor = os.open(one.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
        for asked, wanted in ((None, content), ("bytes=5-104", content[5:105])):
            headers = {"Range": asked} if asked else {}
            async with films.api.session.get(f"{films.api.url}/processed_videos/{VIDEO}", headers=headers) as answer:
                assert await answer.read() == wanted

    play(scenario)


async def test_many_slow_readers_take_no_memory(tmp_path: Path, own_redis: RedisServer, rng: random.Random) -> None:
    """60 readers that hardly read, of a server in a process of its own: it stays as large as it was."""
    film = tmp_path / "data" / "processed_videos" / "film.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(rng.randbytes(LARGE))
    command = [sys.executable, "-m", "scripts.bench_parts.serving", own_redis.url, str(film), str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(await asyncio.to_thread(server.stdout.readline))
        request = f"GET /processed_videos/{BENCH_VIDEO} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        connections = [await asyncio.open_connection("127.0.0.1", port, limit=2**14) for _ in range(60)]
        for reader, writer in connections[:2]:
            writer.write(request)
            assert b" 200 " in await headers_of(reader)
        before = resident(server.pid)
        for reader, writer in connections[2:]:
            writer.write(request)
            assert b" 200 " in await headers_of(reader)
        for _ in range(20):
            for reader, _writer in connections:
                await asyncio.wait_for(reader.readexactly(20_000), 30)
        assert resident(server.pid) - before < 24 * MIB
        for _reader, writer in connections:
            writer.transport.abort()
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
