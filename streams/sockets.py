"""redis-py's connections, made to obey a cancellation at any time.

redis-py sends with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes
in the very moment when the sending is done (python/cpython#86296): a loop that was cancelled then
runs on for ever, a timeout never fires. Sending without it is also quicker by a task for each command.

They also pack commands in C, as redis-py's blocking connections do where hiredis is there and its
asyncio ones do not: packing was a quarter of what an append costs here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError
from redis.exceptions import TimeoutError as RedisTimeoutError


class _Prompt(AbstractConnection):
    def pack_command(self, *args: Any) -> list[bytes]:
        """A command as bytes. One whose name has words (`XINFO STREAM`) sends each of them by itself."""
        name = args[0].encode() if isinstance(args[0], str) else args[0]
        try:
            return [hiredis.pack_command((*name.split(), *args[1:]))]
        except TypeError as error:
            raise DataError(str(error)) from error

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Send a packed command. Whatever goes wrong, the connection is closed: part of it may be sent."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        writer: Any = self._writer
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines([command] if isinstance(command, bytes) else command)
                await writer.drain()
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise


class _PromptConnection(_Prompt, Connection):
    pass


class _PromptSSLConnection(_Prompt, SSLConnection):
    pass


class _PromptUnixConnection(_Prompt, UnixDomainSocketConnection):
    pass


_PROMPT: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _PromptConnection,
    SSLConnection: _PromptSSLConnection,
    UnixDomainSocketConnection: _PromptUnixConnection,
}


class PromptPool(BlockingConnectionPool):
    """A pool of such connections. More commands at once than connections wait their turn."""

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **kwargs: Any) -> None:
        super().__init__(connection_class=_PROMPT[connection_class], **kwargs)
