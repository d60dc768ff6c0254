"""Stands between Spoolhouse and a real S3 server, notes every request, and misbehaves when it is told to.

Runs in a thread of its own, so that tests which block and tests which await can use it alike, and so
can child processes: `with S3Faults(server.url) as faults:` and then `faults.url` as the endpoint.
Requests are passed on byte for byte (signatures and the Host header stay whole).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

PIECE = 65536

XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}


@dataclass
class Seen:
    """One request that came by."""

    method: str
    bucket: str
    key: str
    query: str
    headers: dict[str, str]
    """By lower-case name."""
    size: int
    """Bytes of its body, as announced."""
    received: int = 0
    """Bytes of its body that came here."""
    status: int | None = None
    """What it was answered; None where it was not."""


Which = Callable[[Seen], bool]


@dataclass
class _Fault:
    which: Which
    left: float
    act: str
    """`answer`, `etag`, `reset`, `swallow`, `hang`, `mute` or `crawl`."""
    options: dict[str, Any] = field(default_factory=dict)


class S3Faults:
    """A proxy before the S3 server at `target`. Every fault takes `times` requests, then all is well again.

    `method` and `key` (part of a key) choose the requests that a fault takes; by default any PUT of an object.
    """

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(target)
        self._tls = tls
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.requests: list[Seen] = []
        self._faults: list[_Fault] = []
        self._released = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="s3-faults", daemon=True)
        self._ready = threading.Event()
        self._ending: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The endpoint to give to Spoolhouse."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(30)

    # What it saw.

    def puts(self, bucket: str | None = None) -> dict[str, int]:
        """How often each key was put and that was confirmed (status 200)."""
        counts: dict[str, int] = {}
        for one in self.requests:
            if one.method == "PUT" and one.key and one.status == 200 and bucket in {None, one.bucket}:
                counts[one.key] = counts.get(one.key, 0) + 1
        return counts

    @property
    def bytes_sent(self) -> int:
        """Bytes of bodies that were sent here, confirmed or not."""
        return sum(one.received for one in self.requests)

    # What it does wrong.

    def answer(
        self,
        status: int,
        code: str,
        *,
        times: float = 1,
        headers: dict[str, str] | None = None,
        early: bool = False,
        message: str = "as the test asked",
        **which: str,
    ) -> None:
        """Answer with an error of S3's in the server's place; `early`: before the body is read, then hang up."""
        options = {"status": status, "code": code, "headers": headers or {}, "early": early, "message": message}
        self._add("answer", times, which, **options)

    def wrong_etag(self, *, times: float = 1, etag: str = "0" * 32, **which: str) -> None:
        """Pass on, and tell the client of another ETag."""
        self._add("etag", times, which, etag=etag)

    def reset(self, *, after: int, times: float = 1, **which: str) -> None:
        """Reset the connection once `after` bytes of the body came."""
        self._add("reset", times, which, after=after)

    def lose_reply(self, *, times: float = 1, **which: str) -> None:
        """Let the server do it, and reset the connection in place of its answer."""
        self._add("swallow", times, which)

    def hang(self, *, times: float = 1, **which: str) -> None:
        """Take the request and never read its body, until `release()`."""
        self._add("hang", times, which)

    def mute(self, *, times: float = 1, **which: str) -> None:
        """Take the request with its body and never answer, until `release()`."""
        self._add("mute", times, which)

    def crawl(self, *, piece: int, pause: float, times: float = 1, **which: str) -> None:
        """Read the body `piece` bytes at a time with a pause (seconds) after each: slow, but moving."""
        self._add("crawl", times, which, piece=piece, pause=pause)

    def release(self) -> None:
        """End what hangs: those connections are reset."""
        self._released.set()

    def clear(self) -> None:
        """From now on all is well."""
        self._faults.clear()

    def cut(self) -> None:
        """Reset every connection."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: [one.transport.abort() for one in list(self._connections)])

    def _add(self, act: str, times: float, which: dict[str, str], **options: Any) -> None:
        method, part = which.get("method", "PUT"), which.get("key", "")

        def fits(seen: Seen) -> bool:
            return seen.method == method and part in seen.key and (bool(seen.key) or method != "PUT")

        self._faults.append(_Fault(fits, times, act, options))

    def _fault_for(self, seen: Seen) -> _Fault | None:
        for fault in self._faults:
            if fault.left > 0 and fault.which(seen):
                fault.left -= 1
                return fault
        return None

    # How it does it.

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        # Small: what a client has sent is to be what was read here.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
        tasks: set[asyncio.Task[None]] = set()

        def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(taken, sock=self._listener, ssl=self._tls)
        self._ready.set()
        await self._ending.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection(*self._target, limit=4 * PIECE)
            while await self._request(reader, writer, answers, upstream):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            for one in (writer, upstream):
                if one is not None:
                    one.transport.abort()

    async def _request(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request on and its answer back; whether the connection may go on."""
        head = await reader.readuntil(b"\r\n\r\n")
        seen = _seen(head)
        self.requests.append(seen)
        fault = self._fault_for(seen)
        act, options = (fault.act, fault.options) if fault else ("", {})
        if act == "answer" and options["early"]:
            seen.status = options["status"]
            writer.write(_error(options))
            await writer.drain()
            # As servers do: hang up on a body that nobody wants. Half-closed, so that the answer arrives.
            if writer.can_write_eof():
                writer.write_eof()
            return False
        if act == "hang":
            await self._until_released()
            return False
        if "expect" in seen.headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        passing = act not in {"answer", "mute"}
        if passing:
            upstream.write(head)
        while seen.received < seen.size:
            if act == "reset" and seen.received >= options["after"]:
                return False
            piece = await reader.read(min(seen.size - seen.received, options.get("piece", PIECE)))
            if not piece:
                return False
            seen.received += len(piece)
            if passing:
                upstream.write(piece)
                await upstream.drain()
            if act == "crawl":
                await asyncio.sleep(options["pause"])
        if act == "mute":
            await self._until_released()
            return False
        if act == "answer":
            seen.status = options["status"]
            writer.write(_error(options))
            await writer.drain()
            return True
        return await _answer(seen, answers, None if act == "swallow" else writer, options.get("etag"))

    async def _until_released(self) -> None:
        while not self._released.is_set():
            await asyncio.sleep(0.02)


async def _answer(
    seen: Seen, answers: asyncio.StreamReader, writer: asyncio.StreamWriter | None, etag: str | None
) -> bool:
    head = await answers.readuntil(b"\r\n\r\n")
    headers = _headers(head)
    status = int(head.split(b" ", 2)[1])
    if etag is not None:
        head = b"\r\n".join(
            b'ETag: "%s"' % etag.encode() if line.lower().startswith(b"etag:") else line for line in head.split(b"\r\n")
        )
    body = b""
    if seen.method == "HEAD" or status in {204, 304}:
        length = 0
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        length = 0
        while not body.endswith(b"0\r\n\r\n"):
            size = await answers.readuntil(b"\r\n")
            body += size + await answers.readexactly(int(size, 16) + 2)
    else:
        length = int(headers.get("content-length", 0))
    if writer is None:
        await answers.readexactly(length)
        return False
    writer.write(head + body)
    while length:
        piece = await answers.readexactly(min(length, PIECE))
        length -= len(piece)
        writer.write(piece)
        await writer.drain()
    seen.status = status
    await writer.drain()
    return True


def _seen(head: bytes) -> Seen:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    path, _, query = target.partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    headers = _headers(head)
    return Seen(method, bucket, key, query, headers, int(headers.get("content-length", 0)))


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _error(options: dict[str, Any]) -> bytes:
    body = XML.format(code=options["code"], message=options["message"]).encode()
    headers = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **options["headers"]}
    if options["early"]:
        headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reason = REASONS.get(options["status"], "Error")
    return f"HTTP/1.1 {options['status']} {reason}\r\n{lines}\r\n".encode() + body
