"""Starts downloads, the lowest number first, as far as the limits allow. One process at a time runs it.

The log is the queue. It begins with the table's open downloads, follows the log from where the table
stands, and appends `DownloadStarted` under the version that it knows: whatever was written at the same
moment (a person cancelled, another dispatcher was quicker) refuses it, and it decides anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import ValidationError

from processors.download_requests import SOURCE
from processors.storage.disk import MIB, Marks, space
from processors.storage.threads import in_thread
from processors.turns import GRACE, LONGEST_CHAIN, Turns, host_of
from streams.background import stop_if_cancelled
from streams.codec import recorded
from streams.crashpoints import reach
from streams.download_config import SavedConfig, configured, saved_config
from streams.downloads import Download, fold
from streams.entries import Appended, Entry, NewEvent, new_event
from streams.errors import ConflictError, DependencyDownError, LogUnavailableError, SpoolhouseError, UndecodableError
from streams.events import DownloadCancelled, DownloadFailed, DownloadNumbered, DownloadStarted, Event
from streams.identity import DOWNLOAD_CONFIG, DOWNLOADS_REGISTRY, download_subject
from streams.keys import partition_of
from streams.log import Log
from streams.queries import Downloads
from streams.settings import Settings

LOOK = 5.0
"""Seconds until the next look where nothing happens."""

ROOM_LOOK = 2.0
"""Seconds between two looks at a full disk."""

PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two beginnings, while something is down."""

CANCELLED_AT_ONCE = 500

RECENT = 1000
"""Entries before where the table stands that are looked through for numbers."""

_log = structlog.get_logger(__name__)


class BrokenLogError(Exception):
    """What was read of the log may not be in it any more: begin anew."""


class Dispatcher:
    """Decides which download is started when."""

    def __init__(self, log: Log, settings: Settings, known: Downloads) -> None:
        self._log, self._settings, self._known = log, settings, known
        self._marks = Marks.of(settings)
        self._registry = partition_of(DOWNLOADS_REGISTRY, log.partitions)
        self._saved = SavedConfig()
        self._positions: list[int] = []
        self.turns = Turns(configured(settings, {}), datetime.now(UTC))
        self.held: str | None = None
        """Why nothing is started just now, though something is due; for people."""

    async def run(self) -> None:
        """Dispatch for ever."""
        pause = PAUSE
        while True:
            stop_if_cancelled()
            try:
                await self._begin()
                pause = PAUSE
                await self._follow()
            except BrokenLogError as error:
                _log.info("the queue of downloads is read anew", reason=str(error))
            except (LogUnavailableError, DependencyDownError, UndecodableError) as error:
                _log.warning("the queue of downloads waits", error=str(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    # ---------------------------------------------------------------- what is known

    async def _begin(self) -> None:
        """Know everything as the table has it."""
        positions, downloads = await self._known.open_downloads()
        if len(positions) != self._log.partitions:
            raise DependencyDownError("catalogue", "the table of downloads is not made yet", unreachable=False)
        heads = await self._log.heads()
        if any(head < at for head, at in zip(heads, positions, strict=True)):
            raise BrokenLogError("the log is shorter than what was read of it")
        self._positions = positions
        self._saved = saved_config(await self._log.history(DOWNLOAD_CONFIG))
        fresh = Turns(configured(self._settings, self._saved.config), datetime.now(UTC))
        for one in downloads:
            await self._put(fresh, one)
        fresh.keep_to(self.turns)
        await self._expect_recent(fresh)
        self.turns = fresh

    async def _expect_recent(self, turns: Turns) -> None:
        """Numbers that were handed out just before we came: the request of one may be on its way."""
        since = datetime.now(UTC) - timedelta(seconds=GRACE)
        after = max(0, self._positions[self._registry] - RECENT)
        recent: dict[int, datetime] = {}
        for entry in await self._log.read(self._registry, after=after, count=RECENT):
            if entry.fields.get(b"type") == DownloadNumbered.__name__.encode():
                with suppress(UndecodableError):
                    told = recorded(entry.partition, entry.pos, entry.fields)
                    if told.time > since:
                        recent[told.ver] = told.time
        versions = await self._log.versions([download_subject(number) for number in recent])
        for (number, at), version in zip(recent.items(), versions, strict=True):
            if not version:
                turns.handed_out(number, at)

    async def _follow(self) -> None:
        """Act on what happens, until the log breaks off."""
        breaks = self._log.reader.breaks
        while self._log.reader.breaks == breaks:
            stop_if_cancelled()
            await self._read()
            now = datetime.now(UTC)
            if cancelled := self.turns.cancelled():
                await self._cancel(cancelled[:CANCELLED_AT_ONCE], now)
                continue
            choice = self.turns.choose(now)
            wait = LOOK if choice.again is None else min(LOOK, (choice.again - now).total_seconds())
            if not choice.start:
                self.held = None
            elif await self._has_room():
                await self._start(choice.start, now)
                continue
            else:
                wait = ROOM_LOOK
            await self._log.wait_beyond(self._positions, timeout=max(0.001, wait))
        raise BrokenLogError("the connection broke")

    async def _read(self) -> None:
        """Take in all that the log holds. Numbers first: they say what is to be waited for."""
        for partition in (self._registry, *(p for p in range(self._log.partitions) if p != self._registry)):
            while self._log.reader.beyond(partition, self._positions[partition]):
                entries = await self._log.read(partition, after=self._positions[partition])
                if not entries:
                    raise BrokenLogError("the log is shorter than it was")
                for entry in entries:
                    await self._take_in(entry)
                    self._positions[partition] = entry.pos

    async def _take_in(self, entry: Entry) -> None:
        subject = entry.fields.get(b"subject", b"").decode("utf-8", "replace")
        if not subject.startswith("download:") and subject not in {DOWNLOADS_REGISTRY, DOWNLOAD_CONFIG}:
            return
        try:
            told = recorded(entry.partition, entry.pos, entry.fields)
        except UndecodableError as error:  # put in by hand; where a version is lacking then, the history is read
            _log.error("an event of the queue of downloads cannot be read", subject=subject, error=str(error))
            return
        number = subject.removeprefix("download:")
        if number.isdecimal():
            await self._after(self.turns, self.turns.take_in(told, int(number)))
        elif isinstance(told.event, DownloadNumbered):
            self.turns.handed_out(told.ver, told.time)
        elif subject == DOWNLOAD_CONFIG:
            self._saved = saved_config([told], self._saved)
            self.turns.config = configured(self._settings, self._saved.config)

    async def _put(self, turns: Turns, download: Download) -> None:
        await self._after(turns, turns.put(download))

    async def _after(self, turns: Turns, wanted: int | None) -> None:
        """Look up the histories that are wanted to know how things stand."""
        for _ in range(LONGEST_CHAIN):
            if wanted is None:
                return
            download = fold(await self._log.history(download_subject(wanted)))
            if download is None:
                return
            wanted = turns.put(download) if download.is_open else turns.put_list(download)

    # ---------------------------------------------------------------- what is done

    async def _start(self, downloads: Sequence[Download], now: datetime) -> None:
        news = [new_event(download_subject(one.number), self._started(one), source=SOURCE, expected=one.ver)
                for one in downloads]  # fmt: skip
        await self._append(downloads, news, now)
        reach("dispatch.started")

    def _started(self, download: Download) -> Event:
        try:
            config = self.turns.config.with_options(download.options)
        except ValidationError as error:
            reason = f"what was asked for is not understood: {error.errors()[0]['msg']}"
            return DownloadFailed(take=download.take, attempt=download.attempt, kind="unsupported", reason=reason)
        return DownloadStarted(
            take=download.take,
            attempt=download.attempt + 1,
            host=host_of(download.url),
            config=config.model_dump(mode="json"),
        )

    async def _cancel(self, downloads: Sequence[Download], now: datetime) -> None:
        """Entries of lists that nobody wants any more."""
        news = [
            new_event(
                download_subject(one.number),
                DownloadCancelled(take=one.take, reason=f"cancelled with list {one.parent}"),
                source=SOURCE,
                expected=one.ver,
            )
            for one in downloads
        ]
        await self._append(downloads, news, now)
        _log.info("entries of a cancelled list cancelled", count=len(news))

    async def _append(self, downloads: Sequence[Download], news: Sequence[NewEvent], now: datetime) -> None:
        """Append what was decided; where something else was written first, that is taken in and all is decided anew."""
        answers = await self._log.try_append_all(news)
        for answer in answers:
            if isinstance(answer, SpoolhouseError) and not isinstance(answer, ConflictError):
                raise answer
        await self._read()
        for download, answer in zip(downloads, answers, strict=True):
            known = self.turns.open.get(download.number)
            if known is None or known.ver > download.ver:
                continue
            # The log has more of it than was read, or knew this very event: its history tells.
            told = fold(await self._log.history(download_subject(download.number)))
            if told is not None and told.ver > download.ver:
                await self._put(self.turns, told)
            else:
                duplicate = isinstance(answer, Appended) and answer.duplicate
                _log.error("a download cannot be started; others go first", number=download.number, again=duplicate)
                self.turns.set_aside(download.number, now)

    async def _has_room(self) -> bool:
        """Whether the disk of the media root takes more; says so where it does not."""
        folder = self._settings.downloads
        try:
            found = await in_thread(space, folder)
        except OSError as error:
            _log.debug("free space cannot be told", folder=str(folder), error=str(error))
            return True
        _, hard = self._marks.on(found.total)
        if found.free >= hard:
            self.held = None
            return True
        if self.held is None:
            _log.warning("downloads wait: the disk is full", folder=str(folder), free=found.free, mark=hard)
        self.held = (
            f"downloads wait: {found.free / MIB:.2f} MB are free in {folder}, less than {hard / MIB:.2f} MB "
            "(SPOOLHOUSE_DISK_HARD). Free some space there; they go on by themselves"
        )
        return False
