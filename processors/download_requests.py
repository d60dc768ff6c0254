"""Takes in requests for downloads: a number, a file, and only then an event.

1. the log numbers it (`DownloadNumbered`)      → a number that nobody has: the queue waits a moment for it, no more
2. its file is durable (`storage.requests`)     → taken: from now on it cannot be lost
3. the log has it (`DownloadRequested`)         → else `append_pending` sees to it, as soon as the log is there
4. the file's mark is removed                   → else it is appended again: a duplicate, harmless

What stands on the right is what a process that dies right after a step leaves behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import structlog

from processors.storage.requests import RequestFile, RequestFiles
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.downloads import fold
from streams.entries import NewEvent, new_event
from streams.errors import ConflictError, LogUnavailableError, SpoolhouseError
from streams.events import (
    DownloadCancelled,
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadNumbered,
    DownloadRefreshed,
    DownloadRequested,
    DownloadSkipped,
    DownloadStarted,
    DownloadStored,
)
from streams.identity import DOWNLOADS_REGISTRY, download_subject, entry_key
from streams.log import Log
from streams.settings import Settings

BATCH = 500
"""Events that are appended at once."""

SOURCE = "downloads"
"""Who appends it all."""

TRIES = 5
"""How often a request is numbered anew whose number turned out to be another's."""

MAX_TITLE = 500
"""Characters."""

_log = structlog.get_logger(__name__)


async def numbered(log: Log, keys: Sequence[str], *, timeout: float = 10.0) -> list[int]:
    """The numbers of downloads with these keys, handed out in their order; a key that has one keeps it.

    Raises LogUnavailableError after `timeout` seconds for each 500.
    """
    numbers: list[int] = []
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        news = [new_event(DOWNLOADS_REGISTRY, DownloadNumbered(key=key), source=SOURCE) for key in part]
        numbers += [placed.ver for placed in await log.append_all(news, timeout=timeout)]
    return numbers


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that has no number yet. The fields are those of `streams.events.DownloadRequested`."""

    key: str
    url: str
    directory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    client_id: str | None = None
    parent: int | None = None
    subscription: int | None = None
    entry: str | None = None
    title: str = ""

    def numbered(self, number: int, key: str) -> RequestFile:
        """The request as it is taken. `key`: its own, unless that was given to another request by mistake."""
        event = DownloadRequested(
            number=number,
            key=key,
            url=self.url,
            directory=self.directory,
            options=self.options,
            client_id=self.client_id,
            parent=self.parent,
            subscription=self.subscription,
            entry=None if self.entry is None else _printable(self.entry),
            title=_printable(self.title),
        )
        return RequestFile(number, (new_event(download_subject(number), event, source=SOURCE),))


class Requests:
    """The way in for requests. One for each process that takes any; several do no harm."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self.files = log, RequestFiles(settings.download_requests)

    async def take(self, wanted: Sequence[Wanted], *, timeout: float = 10.0) -> list[RequestFile]:
        """Take requests: they are kept for good when this returns. Their numbers have their order.

        Harmless to repeat: a key that was taken keeps its number. Raises LogUnavailableError and OSError; what was
        taken until then stays so, in order, and the rest was not taken.
        """
        taken: list[RequestFile] = []
        for start in range(0, len(wanted), BATCH):
            made = await self._made(wanted[start : start + BATCH], timeout)
            taken += made
            reach("downloads.accepted")
            try:
                await self._append(made, timeout)
            except LogUnavailableError as error:
                _log.warning("log is down: requests for downloads wait for it", count=len(made), error=str(error))
        return taken

    async def append_pending(self) -> int:
        """Append what the log may lack of requests that were taken; how many it lacked. Raises LogUnavailableError."""
        if not await in_thread(self.files.any_pending):
            return 0
        return await self._append(await in_thread(self.files.pending), 10.0)

    async def keep(self, number: int) -> None:
        """Put into a download's file how it stands, so that it does not come to life again after a lost tail.

        Raises LogUnavailableError, UndecodableError, OSError.
        """
        events = kept(await self._log.history(download_subject(number)))
        if events:
            await in_thread(self.files.keep, RequestFile(number, events))

    async def restore(self) -> int:
        """After a lost tail: numbers, requests, what became of them, and the configuration; how much was lacking.

        Raises LogUnavailableError: call it again then.
        """
        added = await self.restore_numbers()
        every = self.files.all()
        while batch := await in_thread(list, islice(every, BATCH)):
            placed = await self._log.append_all([event for one in batch for event in one.events], timeout=30)
            added += sum(not one.duplicate for one in placed)
            await in_thread(self.files.mark_logged, [one.number for one in batch])
        if (change := await in_thread(self.files.config)) is not None:
            added += not (await self._log.append(change, timeout=30)).duplicate
        if added:
            _log.info("appended again what the log had lost of downloads", count=added)
        return added

    async def restore_numbers(self) -> int:
        """See to it that the next number is beyond all that have a file; how many were handed out again for that.

        Each goes to its key again, but for those that were given to another request meanwhile.
        """
        numbers = await in_thread(self.files.numbers)
        highest, added = max(numbers, default=0), 0
        for _ in range(2 * highest):  # each round hands out one at the least, if not hundreds
            before = await self._log.version(DOWNLOADS_REGISTRY)
            if before >= highest:
                break
            part = range(before + 1, min(before + BATCH, highest) + 1)
            keys = await in_thread(self._keys, part)
            added += await self._hand_out(dict(zip(part, keys, strict=True)))
            if await self._log.version(DOWNLOADS_REGISTRY) == before:
                # The first one's key has another number by now: nobody gets this one.
                added += await self._hand_out({before + 1: f"lost:{before + 1}"})
        return added

    def _keys(self, numbers: Iterable[int]) -> list[str]:
        found = ((number, self.files.get(number)) for number in numbers)
        return [f"lost:{number}" if one is None else one.key for number, one in found]

    async def _hand_out(self, keys: Mapping[int, str]) -> int:
        """Give numbers, which must be the next ones, to keys; how many were."""
        news = [
            new_event(DOWNLOADS_REGISTRY, DownloadNumbered(key=key), source=SOURCE, expected=number - 1)
            for number, key in keys.items()
        ]
        added = 0
        for answer in await self._log.try_append_all(news, timeout=30):
            if isinstance(answer, SpoolhouseError):
                if not isinstance(answer, ConflictError):  # a request is taken meanwhile: its number stands
                    raise answer
                continue
            added += not answer.duplicate
        return added

    async def _made(self, wanted: Sequence[Wanted], timeout: float) -> list[RequestFile]:
        """Steps 1 and 2."""
        keys = [one.key for one in wanted]
        taken: list[RequestFile | None] = [None] * len(wanted)
        for _ in range(TRIES):
            left = [index for index, one in enumerate(taken) if one is None]
            numbers = await numbered(self._log, [keys[index] for index in left], timeout=timeout)
            reach("downloads.numbered")
            made = [wanted[index].numbered(number, keys[index]) for index, number in zip(left, numbers, strict=True)]
            # Shielded: a thread is not stopped by whoever goes away, and what it has written counts.
            ours = await asyncio.shield(in_thread(self.files.create, made))
            for index, request, is_ours in zip(left, made, ours, strict=True):
                if is_ours:
                    taken[index] = request
                else:
                    keys[index] = entry_key(keys[index], "numbered anew")
            if all(ours):
                return [one for one in taken if one is not None]
            _log.error("the log hands out numbers that were handed out before: it lost its tail", numbers=numbers[:10])
            await self.restore_numbers()
        raise LogUnavailableError("The log lost its tail and is being put right: try again in a moment.")

    async def _append(self, requests: Sequence[RequestFile], timeout: float) -> int:
        """Steps 3 and 4."""
        added = 0
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            placed = await self._log.append_all([one.events[0] for one in batch], timeout=timeout)
            added += sum(not one.duplicate for one in placed)
            await in_thread(self.files.mark_logged, [one.number for one in batch])
        return added


ENDINGS = (DownloadStored, DownloadSkipped, DownloadExpanded, DownloadFailed, DownloadCancelled)
KEPT = (*ENDINGS, DownloadRefreshed, DownloadDeleted, DownloadFilesRemoved)
"""After these a download's file tells how it stands."""


def kept(history: Iterable[Recorded[Any]]) -> tuple[NewEvent, ...]:
    """Of a download's events those that tell how it stands, and what it put on the disk; none: there is none.

    One that is open is but its request (and the take that it is at): it is to be done again.
    """
    events = list(history)
    download = fold(events)
    if download is None:
        return ()
    of_take: tuple[type[Any], ...] = (DownloadRefreshed,)
    if not download.is_open:
        of_take += (DownloadStarted, DownloadExtracted, *ENDINGS)
    last: dict[type[Any], Recorded[Any]] = {}
    for one in events:
        kind = type(one.event)
        if kind is DownloadRequested:
            last.setdefault(kind, one)
        elif kind in {DownloadStored, DownloadDeleted, DownloadFilesRemoved} or (
            kind in of_take and one.event.take == download.take
        ):
            last[kind] = one
    ordered = sorted(last.values(), key=lambda one: (type(one.event) is not DownloadRequested, one.ver))
    return tuple(
        NewEvent(one.subject, one.event, one.id, one.source, cause=one.cause, corr=one.corr, time=one.time)
        for one in ordered
    )


def _printable(text: str) -> str:
    """Text that the log can hold."""
    return text.encode("utf-8", "replace").decode()[:MAX_TITLE]
