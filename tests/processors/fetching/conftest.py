"""A site, and a Fetcher that may reach it: one of each for all tests of a module, for a child takes a second to start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from processors.fetching.fetcher import ChildFetcher, open_fetcher
from processors.ports import Extracted, Fetched, FetchFailure, FetchJob, Listed
from streams.download_config import DownloadConfig
from streams.paths import OsPath
from streams.settings import Settings
from tests.sites import Site, open_site


@dataclass
class World:
    """What downloads are tried with."""

    site: Site
    fetcher: ChildFetcher
    settings: Settings

    async def fetch(self, url: str, folder: Path, **config: Any) -> list[Any]:
        """Everything that is said of a download; a URL or a path of the site."""
        folder.mkdir(exist_ok=True)
        where = url if "://" in url else self.site.base + url
        job = FetchJob(where, OsPath(str(folder)), DownloadConfig(**config))
        async with aclosing(self.fetcher.fetch(job)) as saying:
            return [said async for said in saying]

    async def fetched(self, url: str, folder: Path, **config: Any) -> Fetched:
        """The same where it must go well."""
        *_, last = await self.fetch(url, folder, **config)
        assert isinstance(last, Fetched), last
        return last

    async def failed(self, url: str, folder: Path, **config: Any) -> FetchFailure:
        """The same where it must fail."""
        *_, last = await self.fetch(url, folder, **config)
        assert isinstance(last, FetchFailure), last
        return last

    async def extracted(self, url: str, folder: Path, **config: Any) -> Extracted:
        """What the page told."""
        said = await self.fetch(url, folder, **config)
        return next(one for one in said if isinstance(one, Extracted))

    async def listed(self, url: str, **config: Any) -> Listed:
        """What a list holds."""
        found = await self.fetcher.listed(url if "://" in url else self.site.base + url, DownloadConfig(**config))
        assert isinstance(found, Listed), found
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The world as it mostly is."""
    data = tmp_path_factory.mktemp("data")
    settings = Settings(data=data, download_allow=("127.0.0.1",), download_stall=10, download_max_size=4_000_000)
    async with open_site() as site, open_fetcher(settings) as fetcher:
        yield World(site, fetcher, settings)


@pytest.fixture
def content() -> Callable[[Fetched], bytes]:
    """The bytes of a download that is one file."""

    def read(fetched: Fetched) -> bytes:
        (file,) = fetched.media
        data = Path(file.path).read_bytes()
        assert len(data) == file.size
        return data

    return read
