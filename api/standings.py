"""How the work on a video stands, from whoever knows: the catalogue, the log, or what came in here just now.

The catalogue follows the log some way behind, and an upload is accepted while both are down: an id that
was just given out is never unknown, and whoever was told live that work has ended finds it so.
"""

from __future__ import annotations

from collections import OrderedDict

import structlog
from aiohttp import web

from api.services import Catalogue, Stored
from projections.media_queries import media_in
from streams.codec import Recorded
from streams.errors import DependencyDownError, LogUnavailableError, UndecodableError
from streams.log import Log
from streams.media import MediaOf

_log = structlog.get_logger(__name__)

KEPT = 2000
"""Videos that came in here and are remembered."""

MAX_ID = 64
"""Characters of a video's id."""


class Standings:
    """Asks one after the other. One for an application."""

    def __init__(self, log: Log, catalogue: Catalogue, *, previews: bool) -> None:
        self._log, self._catalogue, self._previews = log, catalogue, previews
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._asked: OrderedDict[str, int] = OrderedDict()

    def stored(self, stored: Stored) -> None:
        """A video came in here: whoever asks for it is told so, whatever is down."""
        self._stored[stored.video] = stored
        if len(self._stored) > KEPT:
            self._stored.popitem(last=False)

    def asked(self, video: str, ver: int) -> None:
        """Work on a video was asked for here, by its event `ver`: what the catalogue knew before is not the answer."""
        self._asked[video] = ver
        self._asked.move_to_end(video)
        if len(self._asked) > KEPT:
            self._asked.popitem(last=False)

    async def of(self, video: str) -> MediaOf | None:
        """How the work on a video stands; None for what is no video that came in.

        Raises DependencyDownError or LogUnavailableError where no one can say.
        """
        if len(video) > MAX_ID or ":" in video:
            return None
        down: DependencyDownError | None = None
        found: MediaOf | None = None
        try:
            if (found := await self._catalogue.media(video)) is not None and self._is_settled(found):
                return found
        except DependencyDownError as error:
            down = error
        try:
            found = media_in(await self._log.history(video), previews=self._previews) or found
        except LogUnavailableError:
            if (found := found or self._here(video)) is None:
                raise
        except UndecodableError as error:  # it is for an upgrade to read it
            _log.error("history of a video cannot be read", video=video, error=str(error))
        found = found or self._here(video)
        if found is None and down is not None:
            raise down
        return found

    def _is_settled(self, media: MediaOf) -> bool:
        """Whether nothing is under way, nor was asked for since: else the log may know more by now."""
        states = media.tasks.values()
        newest = max((state.ver for state in states), default=0)
        ended = all(state.status in {"completed", "failed"} for state in states)
        return ended and newest >= self._asked.get(media.video, 0)

    def _here(self, video: str) -> MediaOf | None:
        """As it came in, where it came in here."""
        if (stored := self._stored.get(video)) is None:
            return None
        event = stored.event
        first = Recorded(0, 0, "", type(event).__name__, video, 0, event.received_at, "upload", None, "", event)
        return media_in([first], previews=self._previews)


STANDINGS = web.AppKey("standings", Standings)
