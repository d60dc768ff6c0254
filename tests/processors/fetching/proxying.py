"""The egress proxy in this very process, with look-ups of a test's own, and small servers to be reached through it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

from processors.fetching.egress_dialing import Dialer
from processors.fetching.egress_exchange import Client, exchange
from processors.fetching.registration import Report, credentials
from streams.inner_hosts import Address, parsed

TOKEN = "a token of this test"

Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Names:
    """Look-ups: what each name has, one answer after the other; the last one stays."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self._answers = {f"{name}.test": list(several) for name, several in answers.items()}
        self.asked: list[str] = []

    async def look_up(self, name: str) -> Sequence[Address]:
        self.asked.append(name)
        if name not in self._answers:
            raise OSError(-2, "Name or service not known")
        several = self._answers[name]
        return [ip_address(one) for one in (several.pop(0) if len(several) > 1 else several[0]).split()]


class Proxy:
    """Where it listens, and what it told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reports: list[Report] = []

    async def ask(self, *lines: str, token: str | None = TOKEN, after: bytes = b"") -> bytes:
        """All that it answers to a request of these lines."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            shown = [] if token is None else [f"Proxy-Authorization: {credentials(token).decode()}"]
            writer.write("".join(f"{line}\r\n" for line in (*lines, *shown, "")).encode() + after)
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def proxying(
    names: Names, *opened: str, upstream: str | None = None, head: float = 10, idle: float = 10
) -> AsyncGenerator[Proxy]:
    """A proxy."""
    dialer = Dialer(parsed(opened), upstream, names.look_up)
    tasks: set[asyncio.Task[None]] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)  # noqa: FBT003
        proxy = Proxy(listener.getsockname()[1])
        client = Client(TOKEN, proxy.reports.append)

        async def accept() -> None:
            while True:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                tasks.add(asyncio.create_task(exchange(connection, client, dialer, head=head, idle=idle)))

        accepting = asyncio.create_task(accept())
        try:
            yield proxy
        finally:
            for task in (accepting, *tasks):
                task.cancel()
            outcomes = await asyncio.gather(accepting, *tasks, return_exceptions=True)
            assert [one for one in outcomes if isinstance(one, Exception)] == []


@asynccontextmanager
async def serving(serve: Serving, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[int]:
    """A server; its port."""

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(whole, host, port)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(text: str, heard: list[bytes] | None = None) -> Serving:
    """A site that answers every first request of a connection with this, and notes what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()

    return serve
