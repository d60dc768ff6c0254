"""A running API for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from streams.settings import Settings
from tests.api.running import Api, running_api
from tests.servers import RedisServer


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The API's log lines go nowhere: commands run in this process, and their output is looked at."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real video."""
    from tests.videos import make_video

    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", 1.0)


@pytest.fixture
async def api(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Api]:
    """The API over a shared Redis and SQLite, with projections."""
    async with running_api(make_settings(redis_url=redis_url)) as running:
        yield running


@pytest.fixture
async def every_api(make_settings: Callable[..., Settings], redis_url: str, catalogue_url: str) -> AsyncIterator[Api]:
    """The same, over SQLite and then over MariaDB."""
    async with running_api(make_settings(redis_url=redis_url, catalogue_url=catalogue_url)) as running:
        yield running


@pytest.fixture
async def own_api(make_settings: Callable[..., Settings], own_redis: RedisServer) -> AsyncIterator[Api]:
    """The API over a Redis that the test may kill."""
    async with running_api(make_settings(redis_url=own_redis.url)) as running:
        yield running
