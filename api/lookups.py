"""What is known of a video, kept for a moment: a player asks for the same one many times a minute."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict

import structlog
from aiohttp import web

from api.standings import Standings
from streams.errors import DependencyDownError, LogUnavailableError, NotFoundError, SpoolhouseError
from streams.media import MediaOf

_log = structlog.get_logger(__name__)

FRESH = 1.0
"""Seconds for which an answer of the catalogue is good enough for the next range of the same film."""

STALE = 5.0
"""Seconds for which it is so while the catalogue is asked anew: the film does not wait for that."""

KEPT = 1024
"""Videos that are remembered."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def id_in(request: web.Request, name: str = "file_id") -> str:
    """The id in the path. Raises NotFoundError for what cannot be one."""
    given = request.match_info[name].lower()
    if not _ID.fullmatch(given):
        raise NotFoundError(f"There is no video {given[:80]!r}: an id looks like 3f2b8c1e-6d5a-4e0f-9b7c-2a1d0e4f5a6b.")
    return given


class Lookups:
    """Asks the catalogue, and remembers what has something to play."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings
        self._kept: OrderedDict[str, tuple[float, MediaOf]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def media(self, video: str) -> MediaOf:
        """What is known of it. Raises NotFoundError, DependencyDownError, LogUnavailableError."""
        found = await self._standings.of(video)
        if found is None:
            self._kept.pop(video, None)
            raise NotFoundError(f"There is no video {video!r}.")
        if found.renditions:
            self._kept[video] = (time.monotonic(), found)
            self._kept.move_to_end(video)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    async def recent(self, video: str) -> MediaOf:
        """The same, a moment old perhaps; older while the catalogue cannot be asked, so that films go on.

        Whoever finds that it is not true any more asks `media`.
        """
        kept = self._kept.get(video)
        age = math.inf if kept is None else time.monotonic() - kept[0]
        if kept is not None and age < STALE:
            if age >= FRESH and video not in self._asking:
                self._asking[video] = asyncio.create_task(self._renew(video))
            return kept[1]
        try:
            return await self.media(video)
        except (DependencyDownError, LogUnavailableError):
            if kept is None:
                raise
            return kept[1]

    async def close(self) -> None:
        """Ask no more."""
        for asking in self._asking.values():
            asking.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _renew(self, video: str) -> None:
        try:
            await self.media(video)
        except SpoolhouseError as error:
            # Whoever asks when the answer is too old is told.
            _log.debug("could not ask the catalogue beforehand", video=video, error=str(error))
        finally:
            del self._asking[video]


LOOKUPS = web.AppKey("lookups", Lookups)
