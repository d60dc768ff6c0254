"""One connection of a client to the egress proxy: one request, to one destination that was checked."""

from __future__ import annotations

import asyncio
import hmac
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from processors.fetching.egress_dialing import Dialer, RefusedError, UnreachableError
from processors.fetching.egress_heads import (
    MAX_HEAD,
    REQUEST_END,
    RESPONSE_END,
    BadHeadError,
    Request,
    read_request,
    read_response,
)
from processors.fetching.egress_relay import relay
from processors.fetching.registration import Report, credentials

HEAD = 15.0
"""Seconds that a client gets for the head of its request."""

IDLE = 300.0
"""Seconds without a byte after which a connection is given up. Whoever fetches gives up earlier."""

LINGER = 1.0
"""Seconds that are waited for a client to take in why it was turned away."""

MAX_INTERIM = 10
"""Interim answers (1xx) before the real one."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whose connections these are."""

    token: str
    """What it must show."""
    tell: Callable[[Report], None]
    """Called before the client is answered."""

    def knows(self, shown: bytes) -> bool:
        """Whether somebody showed the token."""
        return hmac.compare_digest(shown, credentials(self.token))


async def exchange(
    connection: socket.socket, client: Client, dialer: Dialer, *, head: float = HEAD, idle: float = IDLE
) -> None:
    """Serve one connection, to its end; closes it. Raises nothing but what cancels it."""
    with connection:
        host = ""
        try:
            request, more = await _request(connection, head)
            host = request.host
            if not client.knows(request.credentials):
                raise BadHeadError(407, "that is somebody else's proxy")
            with await dialer.dial(request.host, request.port) as server:
                await _serve(connection, server, request, more, idle)
        except (RefusedError, UnreachableError, BadHeadError) as error:
            status = 403 if isinstance(error, RefusedError) else error.status
            client.tell(Report("refused" if status == 403 else "failed", host, str(error)))
            await _turn_away(connection, status, str(error))
        except (OSError, EOFError, TimeoutError):
            pass  # one of the two has gone; the other one hears of it now


async def _request(connection: socket.socket, seconds: float) -> tuple[Request, bytes]:
    """What is asked, and what came after its head. Raises EOFError where nothing does."""
    try:
        async with asyncio.timeout(seconds):
            head, more = await _head(connection, REQUEST_END, 431)
    except TimeoutError:
        raise BadHeadError(408, f"a request takes longer than {seconds:g} s to say what it wants") from None
    return read_request(head), more


async def _head(
    connection: socket.socket, end: re.Pattern[bytes], too_large: int, begun: bytes = b""
) -> tuple[bytes, bytes]:
    """A head with its empty line, and what came after it."""
    loop = asyncio.get_running_loop()
    read = bytearray(begun)
    looked = 0
    while (found := end.search(read, max(looked - 4, 0))) is None:
        looked = len(read)
        if looked >= MAX_HEAD:
            raise BadHeadError(too_large, f"its head is longer than {MAX_HEAD} bytes")
        taken = await loop.sock_recv(connection, MAX_HEAD - looked)
        if not taken:
            raise EOFError
        read += taken
    return bytes(read[: found.end()]), bytes(read[found.end() :])


async def _serve(connection: socket.socket, server: socket.socket, request: Request, more: bytes, idle: float) -> None:
    loop = asyncio.get_running_loop()
    if request.tunnel:
        await loop.sock_sendall(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
        if more:
            await _send(server, more, idle)
        if not await relay(connection, server, idle=idle):
            _reset(connection)
        return
    await _send(server, request.head + more[: request.body], idle)
    await _send_body(connection, server, request.body - len(more), idle)
    await _answer(connection, server, idle)


async def _send_body(connection: socket.socket, server: socket.socket, size: int, idle: float) -> None:
    """The rest of what belongs to the request. Bodies are small here, and come at once."""
    loop = asyncio.get_running_loop()
    while size > 0:
        async with asyncio.timeout(idle):
            taken = await loop.sock_recv(connection, min(size, MAX_HEAD))
        if not taken:
            raise EOFError
        await _send(server, taken, idle)
        size -= len(taken)


async def _answer(connection: socket.socket, server: socket.socket, idle: float) -> None:
    more = b""
    for _ in range(MAX_INTERIM):
        try:
            async with asyncio.timeout(idle):
                head, more = await _head(server, RESPONSE_END, 502, more)
        except TimeoutError:
            raise UnreachableError(504, f"no answer came within {idle:g} s") from None
        except (EOFError, OSError):
            raise UnreachableError(502, "the connection was closed before an answer came") from None
        status, passed_on = read_response(head)
        await _send(connection, passed_on, idle)
        if status >= 200:
            break
    else:
        raise EOFError
    if more:
        await _send(connection, more, idle)
    if not await relay(connection, server, idle=idle, upward=0):
        _reset(connection)


def _reset(connection: socket.socket) -> None:
    """Have it closed like one that broke: an answer without a length would else seem to be whole."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _send(sink: socket.socket, data: bytes, idle: float) -> None:
    async with asyncio.timeout(idle):
        await asyncio.get_running_loop().sock_sendall(sink, data)


async def _turn_away(connection: socket.socket, status: int, reason: str) -> None:
    """Say why, also where people see it: clients show of a tunnel that was not opened the first line only."""
    told = re.sub(r"[^\x20-\x7e]", "?", reason)[:400]
    body = told.encode() + b"\n"
    lines = [f"HTTP/1.1 {status} {told}"]
    if status == 403:
        lines.append(f"X-Spoolhouse-Refused: {told}")
    if status == 407:
        lines.append('Proxy-Authenticate: Basic realm="Spoolhouse"')
    lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER):
            await loop.sock_sendall(connection, "\r\n".join(lines).encode() + body)
            connection.shutdown(socket.SHUT_WR)
            # Closed with something unread, the connection would be reset, and the answer lost with it.
            while await loop.sock_recv(connection, MAX_HEAD):
                pass
