"""Bytes from one socket to another, both ways, as fast as they come and as slow as they are taken.

Plain sockets, read and written as soon as the loop says that they can be: transports would copy once more.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

BUFFER = 256 * 1024
"""Bytes taken at once."""

TURN = 16
"""Buffers that one direction may pass on before others have their turn."""

LOOK = 1.0
"""Seconds between two looks whether anything moves."""

LAST_WORDS = 5.0
"""Seconds that a client may go on sending to a server that has ended."""

# One for all: what a socket does not take at once is kept by its own direction.
_buffer = bytearray(BUFFER)
_view = memoryview(_buffer)


class Direction:
    """From one socket to the other, until the first has nothing more."""

    def __init__(self, source: socket.socket, sink: socket.socket, limit: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._sink = source, sink
        self._left = limit
        self._kept = b""
        self.passed = 0
        """Bytes."""
        self.ended = self._loop.create_future()
        """True: the source has nothing more. False: one of the sockets failed."""

    def start(self) -> None:
        """Begin."""
        self._loop.add_reader(self._source, self._readable)

    def stop(self) -> None:
        """Let go of both sockets."""
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)
        if not self.ended.done():
            self.ended.set_result(False)

    def _readable(self) -> None:
        try:
            for _ in range(TURN):
                taken = self._source.recv_into(_buffer)
                if taken == 0:
                    self._end()
                    return
                passed = taken if self._left is None else min(taken, self._left)
                if self._left is not None:
                    self._left -= passed  # whatever comes after that is dropped
                if not self._pass_on(passed):
                    return
                if taken < BUFFER // 8:
                    return  # that was all for now, most likely
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.stop()

    def _pass_on(self, size: int) -> bool:
        """Send what lies in the buffer. False: part of it is kept until the sink takes more."""
        try:
            sent = self._sink.send(_view[:size]) if size else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        self.passed += sent
        if sent == size:
            return True
        self._kept = bytes(_view[sent:size])
        self._loop.remove_reader(self._source)
        self._loop.add_writer(self._sink, self._writable)
        return False

    def _writable(self) -> None:
        try:
            sent = self._sink.send(self._kept)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.stop()
            return
        self.passed += sent
        self._kept = self._kept[sent:]
        if not self._kept:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._readable)

    def _end(self) -> None:
        self._loop.remove_reader(self._source)
        if not self.ended.done():
            self.ended.set_result(True)


async def relay(client: socket.socket, server: socket.socket, *, idle: float, upward: int | None = None) -> bool:
    """Pass bytes on both ways until both have ended, one has failed, or nothing moved for `idle` seconds.

    `upward`: how many more bytes the client may send; what it sends beyond that is dropped, and when
    it ends, all ends. None: as many as it likes, and it may end sending first. True: the server had
    said all that it had to say. False: it was cut short, which its client must be able to tell.
    """
    up, down = Direction(client, server, upward), Direction(server, client)
    both = (up, down)
    for direction in both:
        direction.start()
    try:
        moved, still = -1, 0.0
        while not down.ended.done():
            waiting = [direction.ended for direction in both if not direction.ended.done()]
            done, _ = await asyncio.wait(waiting, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
            if up.ended in done and not down.ended.done() and not _goes_on(up, server, upward):
                return False
            now = up.passed + down.passed
            moved, still = now, (0.0 if now != moved or done else still + LOOK)
            if still >= idle:
                return False
        if upward is None and down.ended.result() and not up.ended.done():
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            await asyncio.wait([up.ended], timeout=min(idle, LAST_WORDS))
        return bool(down.ended.result())
    finally:
        for direction in both:
            direction.stop()


def _goes_on(up: Direction, server: socket.socket, upward: int | None) -> bool:
    """Whether the server may still say something after the client has ended."""
    if not up.ended.result() or upward is not None:
        return False
    with suppress(OSError):
        server.shutdown(socket.SHUT_WR)
    return True
