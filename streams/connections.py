"""Connections to Redis as the log needs them: no retries inside the client, a timeout on everything.

redis-py repeats a command by itself when a connection breaks. That doubles entries and strands
others in pending lists, so it is switched off here; whoever repeats does so knowing what is safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from streams.errors import LogFullError, LogUnavailableError
from streams.sockets import PromptPool

CONNECT_TIMEOUT = 2.0
REPLY_TIMEOUT = 5.0

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
"""What redis-py raises when Redis is gone, busy loading its data, or no longer the primary."""


def connect(url: str, *, reply_timeout: float = REPLY_TIMEOUT, connections: int = 32) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://` (`redis+unix://`). Connects when first used.

    Commands that block must ask for less than `reply_timeout` seconds.
    """
    if url.startswith("redis+unix://"):
        url = "unix://" + url.removeprefix("redis+unix://")
    pool = PromptPool.from_url(
        url,
        timeout=reply_timeout,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=reply_timeout,
        socket_connect_timeout=CONNECT_TIMEOUT,
        # A unix socket knows no keep-alive, and redis-py refuses to be told of one.
        **({} if url.startswith("unix://") else {"socket_keepalive": True}),
        max_connections=connections,
        protocol=2,
        decode_responses=False,
    )
    client: Redis = Redis.from_pool(pool)
    return client


def shown(url: str) -> str:
    """The URL without its password, wherever it stands, for people and logs."""
    parts = urlsplit(url)
    if parts.password is not None:
        place = parts.netloc.rpartition("@")[2]
        url = parts._replace(netloc=f"{parts.username or ''}:***@{place}").geturl()
    return re.sub(r"([?&][^&=]*password)=[^&]*", r"\1=***", url)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turn redis-py's errors into ours: LogUnavailableError, LogFullError."""
    try:
        yield
    except OutOfMemoryError as error:
        raise _full() from error
    except UNREACHABLE as error:
        raise LogUnavailableError(f"Redis cannot be reached ({error}). Is it running?") from error
    except ResponseError as error:
        if str(error).startswith("OOM"):
            raise _full() from error
        raise


def _full() -> LogFullError:
    return LogFullError(
        "Redis is at its maxmemory and takes no more events. Raise maxmemory or free memory; "
        "what was refused is tried again."
    )
