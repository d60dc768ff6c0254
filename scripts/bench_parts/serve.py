"""Playing by ranges: our one process beside nginx with one worker and sendfile, on the same file."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.bench_parts import worlds
from scripts.bench_parts.processes import MIB, resident, tree
from scripts.bench_parts.rows import Row, Size, in_turns, percentile, rate_row
from scripts.bench_parts.serving import VIDEO
from tests.servers import free_port

PLAYERS = 16
"""Connections that wrk keeps busy."""

PACED = 32
"""Players at their own pace, for the rows on first bytes."""

SLOW = 200
"""Readers that take little, for the row on memory."""

LOOK = 64 * 1024
"""Bytes of a range whose first byte is waited for: what a player asks for when it looks around."""

ROOT = Path(__file__).resolve().parents[2]

LEAST_FREE = 64
"""Descriptors that the bench needs besides its connections."""

SCRIPT = """
local size, length = {size}, {length}
math.randomseed(7)
request = function()
   local start = math.random(0, size - length)
   return wrk.format("GET", nil, {{["Range"] = "bytes=" .. start .. "-" .. (start + length - 1)}})
end
"""

NGINX = """
daemon off; master_process off; worker_processes 1; pid {place}/nginx.pid; error_log {place}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    sendfile on; access_log off; keepalive_requests 10000000; types {{ video/mp4 mp4; }}
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One that serves the file."""

    pid: int
    port: int
    path: str


def run(size: Size) -> list[Row]:
    """Throughput, the wait for a first byte, memory."""
    length, rounds, seconds = size.of(8, 256, 512) * MIB, size.of(1, 3, 5), size.of(1, 3, 5)
    with worlds.folder("serve") as place:
        film = _film(place / "data" / "processed_videos" / "film.mp4", length)
        with worlds.redis(place) as redis, _ours(place, redis.url, film) as ours:
            wrk, peer = shutil.which("wrk"), _find_nginx()
            if wrk is None or peer is None:
                missing = "wrk" if wrk is None else "nginx"
                return [Row(f"serving by ranges: not measured, {missing} is not installed", "—"), _memory(ours, size)]
            with _nginx(place, peer, film) as nginx:
                return [
                    _throughput((ours, nginx), place, length, 4 * MIB, rounds, seconds),
                    _throughput((ours, nginx), place, length, MIB, rounds, seconds),
                    *_first_bytes((ours, nginx), place, length, rounds, size.of(50, 300, 1000)),
                    _memory(ours, size),
                ]


# ---------------------------------------------------------------- rows


def _throughput(servers: tuple[Server, Server], place: Path, size: int, length: int, rounds: int, seconds: int) -> Row:
    def side(server: Server) -> float:
        with _players(server, place, size, length, seconds) as players:
            said = players.communicate(timeout=seconds + 60)[0]
        found = re.search(r"Requests/sec:\s+([\d.]+)", said)
        if found is None or "Non-2xx" in said:
            raise RuntimeError(f"wrk says:\n{said}")
        return float(found[1]) * length / MIB

    ours, peer = in_turns(rounds, *(lambda server=server: side(server) for server in servers))
    what = f"ranges of {length // MIB} MiB, {PLAYERS} players as fast as they can (peer: nginx, sendfile)"
    return rate_row(what, ours, peer, "MiB/s", 0.5)


def _first_bytes(servers: tuple[Server, Server], place: Path, size: int, rounds: int, times: int) -> Iterator[Row]:
    """Among players at their own pace; and, told only, where others take all that there is."""

    def at_their_pace(server: Server) -> AbstractContextManager[object]:
        return _pacing(server, size)

    def at_full_speed(server: Server) -> AbstractContextManager[object]:
        return _players(server, place, size, MIB, 3600)

    loads: list[tuple[str, Callable[[Server], AbstractContextManager[object]], float | None]] = [
        (f"among {PACED} players that take 1 MiB/s each", at_their_pace, 3.0),
        (f"among {PLAYERS} that take ranges of 1 MiB as fast as they can", at_full_speed, None),
    ]
    for others, load, most in loads:

        def waits(server: Server, load: Callable[[Server], AbstractContextManager[object]] = load) -> list[float]:
            with load(server):
                time.sleep(0.5)
                return _waits(server, size, times)

        found: tuple[list[list[float]], list[list[float]]] = ([], [])
        for _ in range(rounds):
            for side, server in zip(found, servers, strict=True):
                side.append(waits(server))
        for percent, judged in ((50, None), (99, most)):
            ours, peer = ([percentile(one, percent) for one in side] for side in found)
            ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
            yield Row(
                f"first byte, p{percent} of {times}, {others}",
                f"{statistics.median(ours) * 1000:.2f} ms",
                f"{statistics.median(peer) * 1000:.2f} ms",
                ratio,
                "—" if judged is None else f"≤ {judged:g} ×",
                None if judged is None else ratio <= judged,
            )


def _memory(ours: Server, size: Size) -> Row:
    readers, seconds = size.of(20, SLOW, SLOW), size.of(1, 10, 20)
    _room_for(readers)
    settled, grown, later = asyncio.run(_slowly(ours, readers, seconds))
    return Row(
        f"memory for {readers} slow readers of the whole film, and what {seconds} s more of them add",
        f"+{(grown - settled) / MIB:.1f} MiB, {(later - grown) / MIB:+.1f} MiB",
        target="≤ 48 MiB, then < 4 MiB",
        ok=grown - settled <= 48 * MIB and later - grown < 4 * MIB,
    )


# ---------------------------------------------------------------- clients


@contextmanager
def _players(server: Server, place: Path, size: int, length: int, seconds: int) -> Iterator[subprocess.Popen[str]]:
    script = place / f"ranges-{length}.lua"
    script.write_text(SCRIPT.format(size=size, length=length))
    url = f"http://127.0.0.1:{server.port}{server.path}"
    command = ["wrk", "-t1", f"-c{PLAYERS}", f"-d{seconds}", "-s", str(script), url]
    players = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield players
    finally:
        players.kill()
        players.wait()
        if players.stdout is not None:
            players.stdout.close()


@contextmanager
def _pacing(server: Server, size: int) -> Iterator[None]:
    command = [sys.executable, "-m", "scripts.bench_parts.pacing", str(server.port), server.path, str(PACED), str(size)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "playing\n":
            raise RuntimeError("the players do not play")
        yield
    finally:
        _end(process)


def _waits(server: Server, size: int, times: int) -> list[float]:
    """Seconds from asking to the first bytes of the answer, again and again on one connection."""
    found = []
    dice = random.Random(7)
    with closing(socket.create_connection(("127.0.0.1", server.port), 30)) as connection:
        for _ in range(times):
            start = dice.randrange(size - LOOK)
            request = (
                f"GET {server.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes={start}-{start + LOOK - 1}\r\n\r\n"
            ).encode()
            began = time.perf_counter()
            connection.sendall(request)
            got = bytearray(connection.recv(65536))
            found.append(time.perf_counter() - began)
            while b"\r\n\r\n" not in got:
                got += connection.recv(65536)
            if not got.startswith(b"HTTP/1.1 206"):
                raise RuntimeError(f"answered with {bytes(got[:200])!r}")
            left = LOOK - (len(got) - got.index(b"\r\n\r\n") - 4)
            while left:
                left -= len(connection.recv(min(left, 65536)))
    return found


async def _slowly(server: Server, readers: int, seconds: int) -> tuple[int, int, int]:
    """Bytes of memory before, once all of them read, and after that many seconds of it."""
    request = f"GET {server.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    _waits(server, LOOK * 2, 3)  # what a first request loads stays
    settled = resident(server.pid)
    connections = [await asyncio.open_connection("127.0.0.1", server.port, limit=2**14) for _ in range(readers)]
    try:
        for _, writer in connections:
            writer.write(request)
        for reader, _ in connections:
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        grown = resident(server.pid)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for reader, _ in connections:
                await asyncio.wait_for(reader.readexactly(10_000), 60)
            await asyncio.sleep(0.05)
        return settled, grown, resident(server.pid)
    finally:
        for _, writer in connections:
            writer.transport.abort()


def _room_for(readers: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = readers + LEAST_FREE
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


# ---------------------------------------------------------------- servers


def _film(path: Path, length: int) -> Path:
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for _ in range(length // MIB):
            file.write(os.urandom(MIB))
    return path


@contextmanager
def _ours(place: Path, redis_url: str, film: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "scripts.bench_parts.serving", redis_url, str(film), str(place)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"our server did not start: {line!r}")
        yield Server(tree(process.pid)[0], int(line), f"/processed_videos/{VIDEO}")
    finally:
        _end(process)


@contextmanager
def _nginx(place: Path, program: str, film: Path) -> Iterator[Server]:
    port = free_port()
    configuration = place / "nginx.conf"
    configuration.write_text(NGINX.format(place=place, port=port, root=film.parent))
    process = subprocess.Popen(
        [program, "-p", str(place), "-e", str(place / "nginx.log"), "-c", str(configuration)], text=True
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"nginx did not start: {(place / 'nginx.log').read_text()[-500:]}") from None
                time.sleep(0.05)
        # It gives up root for another user, who must get to the file.
        for folder in (place, *film.relative_to(place).parents):
            (place / folder).chmod(0o755)
        yield Server(process.pid, port, f"/{film.name}")
    finally:
        _end(process)


def _find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
