"""How a download stands, from whoever knows: the catalogue, the log, or what came in here just now.

The catalogue follows the log some way behind, and a request is taken while the log goes down: a number that was
just given out is never unknown, and whoever was told of a change finds it so.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from api.services import Catalogue
from streams.downloads import Download, DownloadStatus, fold
from streams.errors import DependencyDownError, LogUnavailableError, NotFoundError, UndecodableError
from streams.identity import download_subject
from streams.log import Log

_log = structlog.get_logger(__name__)

KEPT = 5000
"""Downloads that were asked for or changed here, and are remembered until the catalogue has them so."""

PAGE = 500
"""Rows that a list fetches at a time."""

WITHIN = 2.0
"""Seconds that the log may take to tell more than the catalogue."""


class DownloadStandings:
    """Asks one after the other. One for an application."""

    def __init__(self, log: Log, catalogue: Catalogue) -> None:
        self._log, self._catalogue = log, catalogue
        self._here: OrderedDict[int, Download] = OrderedDict()

    def told(self, download: Download) -> None:
        """A download was asked for or changed here: whoever asks for it is told so, whatever is down."""
        self._here[download.number] = download
        self._here.move_to_end(download.number)
        if len(self._here) > KEPT:
            self._here.popitem(last=False)

    async def of(self, number: int) -> Download:
        """How a download stands. Raises NotFoundError; LogUnavailableError where no one can say."""
        row: Download | None = None
        try:
            row = await self._catalogue.download(number)
        except DependencyDownError as error:
            _log.warning("catalogue cannot be asked for a download", number=number, error=str(error))
        found = _newer(row, self._here.get(number))
        # What is open moves, and the log knows first; what the catalogue does not have may be new, or gone.
        if row is None or row is not found or row.is_open:
            try:
                told = await self._folded(number)
            except LogUnavailableError:
                if found is None:
                    raise
            else:
                found = self._corrected(number, told) or found
        if found is None or found.phase == "deleted":
            raise NotFoundError(f"There is no download {number}.")
        return found

    async def listed(
        self, status: DownloadStatus | None = None, *, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[Download]:
        """Downloads beyond a number, oldest first, also those that the catalogue does not have yet.

        Raises DependencyDownError.
        """
        ahead = [one for one in await self._ahead() if one.number > after]
        overtaken = {one.number for one in ahead}
        waiting = [one for one in ahead if one.phase != "deleted" and status in {None, one.status}][::-1]
        left = limit if limit is not None else 2**62
        while left > 0:
            wanted = min(PAGE, left + len(ahead))
            page = await self._catalogue.downloads(status, after=after, limit=wanted)
            for row in page:
                while waiting and waiting[-1].number < row.number and left > 0:
                    left -= 1
                    yield waiting.pop()
                if left > 0 and row.number not in overtaken:
                    left -= 1
                    yield row
            if len(page) < wanted:
                break
            after = page[-1].number
        for one in waiting[::-1][:left]:
            yield one

    async def _ahead(self) -> list[Download]:
        """What is known here and not yet by the catalogue, by number."""
        if not self._here:
            return []
        versions = await self._catalogue.download_versions(list(self._here))
        for number, ver in versions.items():
            if number in self._here and self._here[number].ver <= ver:
                del self._here[number]
        return sorted(self._here.values(), key=lambda one: one.number)

    def _corrected(self, number: int, told: Download | None) -> Download | None:
        """The log is the truth, also where it lost its tail since we were told."""
        if told is not None and number in self._here:
            self._here[number] = told
        return told

    async def _folded(self, number: int) -> Download | None:
        try:
            async with asyncio.timeout(WITHIN):
                return fold(await self._log.history(download_subject(number)))
        except TimeoutError:
            raise LogUnavailableError(f"The log did not answer within {WITHIN:g} seconds: try again.") from None
        except UndecodableError as error:  # it is for an upgrade to read it
            raise LogUnavailableError(f"What happened to download {number} cannot be read: {error}.") from error


DOWNLOAD_STANDINGS = web.AppKey("download_standings", DownloadStandings)


def _newer(one: Download | None, other: Download | None) -> Download | None:
    if one is None or other is None:
        return one or other
    return other if other.ver > one.ver else one
