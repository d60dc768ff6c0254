"""The source "downloads": requests come into the log, downloads are started, and how they ended is kept."""

from __future__ import annotations

import asyncio

import structlog

from processors.dispatching import Dispatcher
from processors.download_requests import Requests
from processors.request_keeping import RequestKeeper
from processors.storage.threads import in_thread
from streams.background import running, stop_if_cancelled
from streams.errors import LogUnavailableError, SpoolhouseError
from streams.log import Log
from streams.queries import Downloads
from streams.settings import Settings

LOOK, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two looks for requests that the log lacks."""

SWEEP = 3600.0
"""Seconds between two looks for what dead processes left."""

_log = structlog.get_logger(__name__)


class DownloadQueue:
    """All that one process at a time does for the queue."""

    def __init__(self, log: Log, settings: Settings, known: Downloads) -> None:
        self.requests = Requests(log, settings)
        self.dispatcher = Dispatcher(log, settings, known)
        self.keeper = RequestKeeper(log, self.requests)

    async def run(self) -> None:
        """Work for ever. What was taken in while the log was away is in it before anything is started."""
        await self._appended(LOOK)
        async with running(self.dispatcher.run(), self.keeper.run()):
            await self._reconcile()

    async def _reconcile(self) -> None:
        pause, swept = LOOK, 0.0
        loop = asyncio.get_running_loop()
        while True:
            stop_if_cancelled()
            if not swept or loop.time() > swept + SWEEP:
                await in_thread(self.requests.files.sweep)
                swept = loop.time()
            pause = await self._appended(pause)
            await asyncio.sleep(pause)

    async def _appended(self, pause: float) -> float:
        """Append what waits; how long to wait then."""
        try:
            added = await self.requests.append_pending()
        except LogUnavailableError as error:
            _log.warning("log is down: requests for downloads wait for it", error=str(error))
        except (OSError, SpoolhouseError) as error:
            _log.error("requests for downloads could not be appended; it is tried again", error=str(error))
        else:
            if added:
                _log.info("appended requests for downloads that the log lacked", count=added)
            return LOOK
        return min(LONGEST_PAUSE, pause * 2)

    def warnings(self) -> list[str]:
        """Why downloads wait."""
        return [self.dispatcher.held] if self.dispatcher.held else []
