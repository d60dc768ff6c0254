"""The egress proxy's process: `python -m processors.fetching.egress_child <parent's process id>`.

It reads one line of JSON from its standard input (`{"path", "opened", "upstream"}`), takes
registrations at the unix socket `path`, and says so on its standard output, with what this machine
has to confine its clients (`{"walls": […]}`, see `confinement.WALLS`). It ends when its input does, or
when its parent dies.

A registration is a connection to that socket, over which a client sends a listening TCP socket, with
`{"token": …}`. The proxy answers `{"ready": true}` and from then on accepts on that socket, wherever
in the machine's network namespaces it listens: that is how somebody who has no network at all can
reach it. Each thing that it refuses, or fails at, is a line of JSON on the registration's connection
(`{"what": "refused" | "failed", "host", "reason"}`), written before the client is answered. When that
connection ends, so do all of this client's.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import orjson

from processors.fetching.confinement import walls_here
from processors.fetching.egress_dialing import Dialer
from processors.fetching.egress_exchange import Client, exchange
from processors.fetching.parents import die_with
from processors.fetching.registration import MAX_MESSAGE, Report
from streams.inner_hosts import parsed

MAX_CONNECTIONS = 128
"""Of one client, at a time. More wait in the queue of its listening socket."""

MAX_CLIENTS = 64

INTRODUCTION = 10.0
"""Seconds that a client gets to hand over its socket."""


class Registrations:
    """Takes clients, and serves each until it goes."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._clients: set[asyncio.Task[None]] = set()

    async def take(self, door: socket.socket) -> None:
        """Take whoever comes to `door`, a listening unix socket, for ever."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                registration, _ = await _accepted(loop, door)
                if len(self._clients) >= MAX_CLIENTS:
                    registration.close()  # it tries again
                    continue
                _started(self._clients, self._serve(registration))
        finally:
            await _ended(self._clients)

    async def _serve(self, registration: socket.socket) -> None:
        connections: set[asyncio.Task[None]] = set()
        with registration:
            try:
                async with asyncio.timeout(INTRODUCTION):
                    listener, token = await _introduction(registration)
            except (OSError, ValueError, TimeoutError):
                return
            client = Client(token, lambda report: _tell(registration, report))
            with listener:
                accepting = asyncio.create_task(self._accept(listener, client, connections))
                try:
                    with suppress(OSError):
                        registration.send(b'{"ready": true}\n')
                        while await asyncio.get_running_loop().sock_recv(registration, MAX_MESSAGE):
                            pass  # it has nothing to say: this waits for its end
                finally:
                    await _ended({accepting})
                    await _ended(connections)

    async def _accept(self, listener: socket.socket, client: Client, connections: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while len(connections) >= MAX_CONNECTIONS:
                await asyncio.wait(connections, return_when=asyncio.FIRST_COMPLETED)
            connection, _ = await _accepted(loop, listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _started(connections, exchange(connection, client, self._dialer))


def main() -> None:
    """Serve until the parent is gone."""
    die_with(int(sys.argv[1]))
    walls = walls_here()  # before there is any thread
    import uvloop

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    configuration = orjson.loads(sys.stdin.buffer.readline())
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(configuration["path"], configuration["opened"], configuration["upstream"], walls))


async def _run(path: str, opened: list[str], upstream: str | None, walls: tuple[str, ...]) -> None:
    registrations = Registrations(Dialer(parsed(opened), upstream))
    with suppress(FileNotFoundError):
        os.unlink(path)  # of one before us
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(64)
        door.setblocking(False)  # noqa: FBT003 - its name says it
        taking = asyncio.create_task(registrations.take(door))
        sys.stdout.write(orjson.dumps({"walls": walls}).decode() + "\n")
        sys.stdout.flush()
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        await asyncio.wait([taking, asyncio.ensure_future(ended)], return_when=asyncio.FIRST_COMPLETED)
        await _ended({taking})


async def _introduction(registration: socket.socket) -> tuple[socket.socket, str]:
    """The socket to accept on, and the token that its users show."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(registration, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(registration)
    message, handles, _, _ = socket.recv_fds(registration, MAX_MESSAGE, 1)
    if not handles:
        raise ValueError("no socket came along")
    listener = socket.socket(fileno=handles[0])
    try:
        listener.setblocking(False)  # noqa: FBT003 - its name says it
        token = orjson.loads(message)["token"]
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if not isinstance(token, str) or len(token) < 16 or listener.family != socket.AF_INET or not listens:
            raise ValueError("no token, or no listening TCP socket")
    except (KeyError, TypeError, OSError, ValueError) as error:
        listener.close()
        raise ValueError(str(error)) from error
    return listener, token


async def _accepted(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> tuple[socket.socket, object]:
    """The next connection, non-blocking."""
    while True:
        try:
            return await loop.sock_accept(listener)
        except OSError:
            await asyncio.sleep(0.1)  # too many open files, or it was gone before it was here


def _tell(registration: socket.socket, report: Report) -> None:
    """One line; dropped where nobody reads them."""
    with suppress(OSError):
        registration.send(
            orjson.dumps({"what": report.what, "host": report.host, "reason": report.reason[:1000]}) + b"\n"
        )


def _started(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until they are through."""
    running = list(tasks)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    main()
