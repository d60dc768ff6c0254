"""Downloads over WebSockets: what `api.live` knows of them, beside the work on videos.

The hub hands over what the log says of downloads, in its order, and gets back what to tell.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from api.download_objects import TASK, as_message
from api.listeners import Key, Listener, Told
from api.percentages import Percentages
from api.services import Catalogue
from streams.codec import Recorded
from streams.downloads import Download, fold, folded
from streams.errors import UndecodableError
from streams.identity import download_subject
from streams.log import Log

PREFIX = download_subject(0).rstrip("0")
"""What the subjects of downloads begin with."""

MAX_STATES = 200
"""Downloads whose state a new client is told: those that changed last."""

MAX_KNOWN = 20_000
"""Downloads that moved since the hub began to follow and are remembered."""


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told of one download, and to whom besides everyone."""

    client_id: str | None
    key: Key
    ver: int
    message: bytes

    @property
    def told(self) -> Told:
        """As a status."""
        return Told(self.key, self.ver, self.message)


class LiveDownloads:
    """How downloads stand, as far as the hub has followed. Made and called by `api.live.Live` only."""

    def __init__(self, log: Log, catalogue: Catalogue, percentages: Percentages) -> None:
        self._log, self._catalogue, self._percentages = log, catalogue, percentages
        # None: its history cannot be read.
        self._known: OrderedDict[str, Download | None] = OrderedDict()
        # Of what was heard that it moves, before the hub came by any event of it: what is known may be ahead of the hub.
        self._glimpsed: OrderedDict[str, Download | None] = OrderedDict()

    def forget(self) -> None:
        """Begin anew."""
        self._known.clear()
        self._glimpsed.clear()

    async def learn(self, events: Iterable[Recorded[Any]]) -> None:
        """Find out how those that are not known stood before the first of these events. Raises LogUnavailableError."""
        for event in events:
            if event.subject not in self._known:
                self._known[event.subject] = None if event.ver == 1 else await self._before(event.subject, event.ver)

    def apply(self, event: Recorded[Any]) -> News | None:
        """What an event changes. `learn` was called for it."""
        before = self._known.get(event.subject)
        if before is not None and event.ver <= before.ver:
            return None
        after = folded(before, event)
        self._known[event.subject] = after
        self._known.move_to_end(event.subject)
        changed = after is not None and (before is None or replace(after, ver=before.ver) != before)
        return self._news(after) if after is not None and changed else None

    async def moved(self, subject: str) -> News | None:
        """What is to be told of one that is further by now; None: nothing, it is not being fetched.

        Raises LogUnavailableError.
        """
        if subject not in self._known and subject not in self._glimpsed:
            self._glimpsed[subject] = await self._before(subject, None)
        download = self._known[subject] if subject in self._known else self._glimpsed.get(subject)
        return self._news(download) if download is not None and download.status == "Processing" else None

    async def states(self, listener: Listener) -> list[News]:
        """How a client's downloads stand, what changed last at the end.

        Raises DependencyDownError: what the hub has followed itself is told all the same, by `known`.
        """
        rows = await self._catalogue.downloads_of_client(listener.client_id, MAX_STATES, everyone=listener.everyone)
        return self._newest(listener, rows)

    def known(self, listener: Listener) -> list[News]:
        """The same without the catalogue."""
        return self._newest(listener, ())

    def trim(self) -> None:
        """Keep within bounds."""
        for known in (self._known, self._glimpsed):
            while len(known) > MAX_KNOWN:
                known.popitem(last=False)

    def _newest(self, listener: Listener, rows: Sequence[Download]) -> list[News]:
        found = {download_subject(one.number): one for one in rows}
        for subject, download in self._known.items():
            if download is not None and (listener.everyone or download.client_id == listener.client_id):
                row = found.get(subject)
                found[subject] = download if row is None or row.ver < download.ver else row
        there = [one for one in found.values() if one.phase != "deleted"]
        return [self._news(one) for one in sorted(there, key=lambda one: (one.changed, one.number))[-MAX_STATES:]]

    async def _before(self, subject: str, ver: int | None) -> Download | None:
        try:
            history = await self._log.history(subject)
        except UndecodableError:
            return None
        return fold(one for one in history if ver is None or one.ver < ver)

    def _news(self, download: Download) -> News:
        message = orjson.dumps(as_message(download, self._percentages))
        return News(download.client_id, (download_subject(download.number), TASK), download.ver, message)


def is_of_download(subject: bytes) -> bool:
    """Whether an entry with this subject tells of a download."""
    return subject.startswith(PREFIX.encode())
