"""Numbers that are kept for ever: the version that a registry's own subject has when a request is entered in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streams.entries import new_event
from streams.events import Event
from streams.log import Log

SOURCE = "numbering"


async def numbered(log: Log, registry: str, keys: Sequence[str], event: Callable[[str], Event]) -> list[int]:
    """The number of each request, by its key; one that had a number before has it again.

    `event` makes the entry of a key, e.g. `DownloadNumbered(key=key)`. Raises LogUnavailableError: some of
    the numbers may be given out then, which does no harm.
    """
    placed = await log.append_all([new_event(registry, event(key), source=SOURCE) for key in keys], timeout=10.0)
    return [one.ver for one in placed]
