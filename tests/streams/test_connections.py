"""Connections to Redis: no retries behind our back, cancellations that count, passwords that stay secret."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.connections import UNREACHABLE, connect, shown
from streams.log import open_log
from streams.settings import Settings
from tests.servers import RedisServer, TcpProxy
from tests.streams.driving import numbered


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("pipelined", [False, True])
async def test_cancelled_command_is_cancelled(redis_url: str, steps: int, pipelined: bool) -> None:
    """At whatever moment it comes: redis-py's own connections swallow some before Python 3.12."""
    redis = connect(redis_url)
    await redis.ping()

    async def work() -> None:
        if pipelined:
            await redis.pipeline(transaction=False).set("a", "b").get("a").execute()
        else:
            await redis.get("a")
        await asyncio.sleep(60)

    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled()
    assert await redis.ping(), "the connection that was in the middle of something is not used again"
    await redis.aclose()


async def test_no_command_is_repeated_behind_our_back(redis_server: RedisServer) -> None:
    """A dropped reply is an error, and the command was done once."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        redis = connect(proxy.redis_url)
        await redis.set("count", 0)
        proxy.drop_reply(b"INCR")
        with pytest.raises(RedisConnectionError):
            await redis.incr("count")
        assert await redis.get("count") == b"1"
        await redis.aclose()


async def test_stalled_server_is_given_up(redis_server: RedisServer) -> None:
    """No reply within the reply timeout."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy:
        redis = connect(proxy.redis_url, reply_timeout=0.3)
        await redis.ping()
        proxy.stall()
        with pytest.raises(UNREACHABLE):
            await asyncio.wait_for(redis.ping(), 20)
        await redis.aclose()


async def test_end_of_a_log_is_never_missed(settings: Settings, redis_server: RedisServer) -> None:
    """Closing it in the middle of an append ends its loops."""
    for steps in range(12):
        async with asyncio.timeout(20), open_log(settings, redis_server.url) as log:
            await log.append(numbered("video-1", steps))
            late = asyncio.create_task(log.append(numbered("video-2", steps)))
            for _ in range(steps):
                await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("rediss://me:secret@host/3", "rediss://me:***@host/3"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1&password=***"),
        ("redis://h/0?ssl_password=secret&password=secret", "redis://h/0?ssl_password=***&password=***"),
    ],
)
def test_url_is_shown_without_its_password(url: str, seen: str) -> None:
    assert shown(url) == seen
