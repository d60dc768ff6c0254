"""Fixtures for the tests of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from streams.log import Log, open_log
from streams.settings import Settings
from tests.servers import RedisServer

OpenLog = Callable[..., AbstractAsyncContextManager[Log]]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Few partitions and short leases, so that tests are quick."""
    return make_settings(partitions=4, lease_ttl=1.0, drain=10.0, attempts=5)


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """An open log on an empty Redis."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
async def any_log(settings: Settings, every_redis: RedisServer) -> AsyncIterator[Log]:
    """The same on every version of Redis that is there."""
    async with open_log(settings, every_redis.url) as opened:
        yield opened
