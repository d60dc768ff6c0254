"""What is known of a video, kept for a moment: a player asks for the same one many times a minute."""

from __future__ import annotations

import re
import time
from collections import OrderedDict

from aiohttp import web

from api.standings import Standings
from streams.errors import DependencyDownError, LogUnavailableError, NotFoundError
from streams.media import MediaOf

FRESH = 1.0
"""Seconds for which an answer of the catalogue is good enough for the next range of the same film."""

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
        if kept is not None and time.monotonic() - kept[0] < FRESH:
            return kept[1]
        try:
            return await self.media(video)
        except (DependencyDownError, LogUnavailableError):
            if kept is None:
                raise
            return kept[1]


LOOKUPS = web.AppKey("lookups", Lookups)
