"""Tells the log again which renditions were made of a video, after it lost its tail: their lineages say so."""

from __future__ import annotations

import structlog

from processors.copies import fold
from processors.storage.renditions import Renditions, content_of
from processors.storage.threads import in_thread
from processors.wishes import stored_renditions
from streams.entries import new_event
from streams.errors import ConflictError
from streams.events import EnhancementCompleted, Event
from streams.log import Log
from streams.settings import Settings

_log = structlog.get_logger(__name__)


class Lineages:
    """What lies beside the renditions, as the gate's restorer."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._renditions = log, Renditions(settings)

    async def reappend_all(self) -> int:
        """Append what the log lacks of renditions whose videos it knows; returns how many it lacked.

        Of videos that it does not know yet (watched files, which are found again by a scan), or not with this content,
        nothing is told: a rendition that is asked for is then found by its lineage, and not made anew. Raises
        LogUnavailableError.
        """
        added, lineages = 0, self._renditions.all()
        while (lineage := await in_thread(next, lineages, None)) is not None:
            history, stored = await self._log.history(lineage.video), lineage.event
            facts = fold(history)
            same = (facts.revision, content_of(facts)) == (stored.revision, lineage.content)
            if facts.path is None or not same or stored.rendition in stored_renditions(history):
                continue
            events: list[Event] = [stored]
            if stored.kind == "progressive":
                events.append(
                    EnhancementCompleted(revision=stored.revision, preset=stored.preset, renditions=(stored.rendition,))
                )
            try:
                await self._log.append_all(
                    [new_event(lineage.video, event, source="lineage") for event in events], timeout=10.0
                )
            except ConflictError:
                continue
            added += 1
        if added:
            _log.info("told the log again of renditions that it had lost", count=added)
        return added
