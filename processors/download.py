"""Does one download from end to end: reads the page, fetches, merges, and puts it into the media root.

Its turn has come (`DownloadStarted`); whoever gave it knows of limits, this one does not. What fails is sorted here:
tried again later, or given up, and said either way. Whoever dies in the middle leaves a work folder in which the next
attempt goes on; what lies in the media root already is recognised, and never fetched twice.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from processors.download_attempt import Attempt, SetbackError, UnwantedError
from processors.download_failures import Setback
from processors.download_finishing import Finishing
from processors.download_lists import TooDeepError, expanded
from processors.ports import (
    Extracted,
    Fetched,
    Fetcher,
    FetchFailure,
    FetchJob,
    Listed,
    MediaFailure,
    PartFinished,
    Received,
    Studio,
)
from processors.storage.library import Former, Kept, Library
from processors.storage.library_folders import LeadsOutError
from processors.storage.library_unfinished import prepared
from processors.storage.library_work import WorkFolder, WorkHeldError, folder_of, held
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.download_config import MAX_CONCURRENCY, DownloadConfig
from streams.downloads import GROUP, fold
from streams.errors import (
    LogUnavailableError,
    SettingsError,
    TransientError,
)
from streams.events import (
    DownloadExtracted,
    DownloadFailed,
    DownloadMerged,
    DownloadPartFinished,
    DownloadSkipped,
    DownloadStarted,
    DownloadStored,
    Event,
)
from streams.identity import download_subject, downloaded_video_id
from streams.log import Log
from streams.paths import OsPath
from streams.processing import Context, First, processor
from streams.queries import Downloads, Histories

T = TypeVar("T")

LOCK_WITHIN = 15.0
"""Seconds that another process gets to let go of the work folder."""

APPEND_WITHIN = 2.0
"""Seconds that the video's own first event waits for the log here; else it follows by itself."""


@processor(GROUP, on=DownloadStarted, concurrency=MAX_CONCURRENCY, alias=("downloads",))
async def download(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Do what was started, to its end or as far as it goes now."""
    history = await context.service(Histories).history(recorded.subject)  # type: ignore[type-abstract]
    state = fold(history)
    if state is None:
        return
    running = _Downloading(Attempt(recorded.subject, recorded.event, state, history, context))
    async with aclosing(running.events()) as events:
        async for event in events:
            yield event


@dataclass(slots=True)
class _Downloading:
    """One attempt, from end to end."""

    at: Attempt
    started: DownloadStarted = field(init=False)
    context: Context = field(init=False)
    library: Library = field(init=False)
    video: str = field(init=False)
    page: Extracted | None = None
    fresh: bool = True
    """Nothing was left by an earlier attempt."""
    began: float = field(default_factory=time.monotonic)
    received: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.started, self.context = self.at.started, self.at.context
        self.library = Library(self.context.settings)
        self.video = downloaded_video_id(self.at.state.key, self.started.take)

    async def events(self) -> AsyncGenerator[Event]:
        """All that happens. Raises what is our own trouble."""
        wanted = self.at.is_wanted
        if not wanted and (self.at.state.is_open or self._is_told()):
            return  # another attempt's, or all is said
        try:
            unfinished = await in_thread(prepared, self.context.settings)
            place = folder_of(unfinished, self.at.state.number, self.at.state.key)
            async with held(place, patience=LOCK_WITHIN) as work:
                async with aclosing(self._in(work, wanted=wanted)) as events:
                    async for event in events:
                        yield event
        except WorkHeldError as error:
            raise TransientError("another process still works on this download", retry_after=1.0) from error
        except (OSError, SettingsError) as error:
            told = getattr(error, "strerror", None) or str(error)
            yield self.at.outcome(Setback("unwritable", f"what comes down cannot be kept: {told}"))

    def _is_told(self) -> bool:
        """Whether the log knows what this take put into the media root."""
        return any(
            isinstance(one.event, DownloadStored) and one.event.take == self.started.take for one in self.at.history
        )

    async def _in(self, work: WorkFolder, *, wanted: bool) -> AsyncGenerator[Event]:
        """With the work folder ours."""
        kept = await in_thread(self.library.kept, self.video, work.state)
        if kept is not None:  # its last owner died just before the log heard of it
            async with aclosing(self._told(kept, (), work)) as events:
                async for event in events:
                    yield event
            return
        if not wanted:
            await in_thread(self._discard, work)
            return
        if await in_thread(work.begin, f"{self.started.take}/{self.started.attempt}"):
            # Its last owner died. As another attempt it is begun like any other, not suspected of having killed it.
            yield self.at.outcome(Setback("interrupted", "whoever fetched it was stopped"))
            return
        reach("download.begun")
        try:
            async with aclosing(self._attempt(work)) as events:
                async for event in events:
                    yield event
        finally:
            work.end()

    async def _attempt(self, work: WorkFolder) -> AsyncGenerator[Event]:
        closing: Event
        try:
            async with aclosing(self._fetched(work)) as events:
                async for event in events:
                    yield event
            return
        except UnwantedError:
            self.context.log.info("download is not wanted any more")
            await in_thread(self._discard, work)
            return
        except SetbackError as error:
            closing = self.at.outcome(error.setback)
        yield closing
        reach("download.put_off")
        if isinstance(closing, DownloadFailed):
            await in_thread(self._discard, work)

    def _discard(self, work: WorkFolder) -> None:
        """Nothing of this take is needed any more."""
        self.library.undo(work)
        work.discard()

    # ---------------------------------------------------------------- fetching

    async def _fetched(self, work: WorkFolder) -> AsyncGenerator[Event]:
        """Fetch it and put it into its place. Raises UnwantedError, SetbackError."""
        config = self.at.config()
        folder = await in_thread(work.fetching, self.started.take)
        self.fresh = not await in_thread(os.listdir, folder)
        await self.at.require_room(folder, 0)
        job = FetchJob(self.at.state.url, OsPath(str(folder)), config)
        end: Fetched | Listed | None = None
        skipped: DownloadSkipped | None = None
        fetcher = self.context.service(Fetcher)  # type: ignore[type-abstract]
        async with aclosing(self.at.watched(fetcher.fetch(job))) as answers:
            async for answer in answers:
                match answer:
                    case Extracted():
                        self.page = self._titled(answer)
                        yield self._extracted(self.page)
                        reach("download.extracted")
                        if (skipped := await self._skipped(config)) is not None:
                            break
                        await self.at.require_room(folder, answer.size or 0)
                    case Received():
                        await self.at.tell(answer)
                        await self.at.look_at_room(folder)
                    case PartFinished():
                        yield DownloadPartFinished(
                            take=self.started.take,
                            attempt=self.started.attempt,
                            part=answer.part,
                            format=answer.format,
                            size=answer.size,
                        )
                        reach("download.part_finished")
                    case FetchFailure():
                        if self.context.draining.is_set() and answer.kind in {"unavailable", "killed"}:
                            raise SetbackError(Setback("interrupted", "the worker is stopping"))
                        raise SetbackError(Setback.of_fetching(answer))
                    case Fetched() | Listed():
                        end = answer
        if skipped is not None:
            yield skipped
            reach("download.skipped")
            await in_thread(self._discard, work)
        elif isinstance(end, Listed):
            yield await self._expanded(end, config)
            reach("download.expanded")
            await in_thread(self._discard, work)
        elif isinstance(end, Fetched) and self.page is not None:
            async with aclosing(self._finished(end, self.page, config, work)) as events:
                async for event in events:
                    yield event
        else:
            raise SetbackError(Setback("crashed", "the process that fetched it ended without a word"))

    def _titled(self, page: Extracted) -> Extracted:
        """A bare file is called by its name only; the list that named it may know more."""
        requested = self.at.history[0].event.title if self.at.history else ""
        bare = page.extractor == "Generic" and page.title == page.media_id.rpartition("-")[0]
        return replace(page, title=requested) if bare and requested else page

    def _extracted(self, page: Extracted) -> DownloadExtracted:
        told = {one.name: getattr(page, one.name) for one in fields(Extracted)}
        return DownloadExtracted(take=self.started.take, attempt=self.started.attempt, **told)

    async def _skipped(self, config: DownloadConfig) -> DownloadSkipped | None:
        """What to say where another download fetched the same and it is still there; a refresh fetches anew."""
        if self.started.take > 1 or self.page is None:
            return None
        entry = f"{self.page.extractor} {self.page.media_id}"[:500]
        key = replace(self.at.state, entry=entry, audio_only=config.audio_only).archive_key
        assert key is not None
        found = (await self.context.service(Downloads).fetched([key])).get(key)  # type: ignore[type-abstract]
        if found is None or found.number == self.at.state.number:
            return None
        if not await in_thread(self.library.is_there, found.video, found.path):
            return None
        return DownloadSkipped(take=self.started.take, number=found.number, video=found.video, path=found.path)

    async def _expanded(self, listed: Listed, config: DownloadConfig) -> Event:
        try:
            return await expanded(listed, self.at.state, config.audio_only, config.limit, self.context, self.at.look)
        except TooDeepError as error:
            raise SetbackError(Setback("unsupported", str(error))) from error

    # ---------------------------------------------------------------- finishing

    async def _finished(
        self, fetched: Fetched, page: Extracted, config: DownloadConfig, work: WorkFolder
    ) -> AsyncGenerator[Event]:
        """Merge it, and put it into the media root. Raises UnwantedError, SetbackError."""
        size = sum(one.size for one in fetched.media)
        await self.at.require_room(work.path, size)
        finishing = Finishing(
            self.at.state, page, fetched, config, await self._playlist(), await in_thread(work.making)
        )
        studio = self.context.service(Studio)  # type: ignore[type-abstract]
        async with aclosing(self.at.watched(finishing.merge(studio), finishing=True)) as answers:
            async for answer in answers:
                if isinstance(answer, MediaFailure):
                    setback = Setback.of_finishing(answer, fresh=self.fresh)
                    if answer.kind not in _NOT_THE_FILES:
                        await in_thread(work.forget_fetched, self.started.take)
                    raise SetbackError(setback)
        if finishing.finished is None:
            raise SetbackError(Setback("crashed", "the process that merged it ended without a word"))
        yield DownloadMerged(
            take=self.started.take,
            attempt=self.started.attempt,
            container=finishing.finished.container,
            size=await in_thread(os.path.getsize, finishing.video),
            parts=len(fetched.media),
            warnings=finishing.said(),
            duration=finishing.finished.duration,
        )
        reach("download.merged")
        ready = await finishing.ready(studio)
        await self.at.look(at_once=True)
        if (skipped := await self._skipped(config)) is not None:  # fetched by another one meanwhile
            yield skipped
            await in_thread(self._discard, work)
            return
        event = finishing.event(self.received, time.monotonic() - self.began)
        try:
            kept = await _to_its_end(in_thread(self.library.place, self.video, ready, event, work, self._former()))
        except LeadsOutError as error:
            raise SetbackError(Setback("refused", str(error))) from error
        except OSError as error:
            told = f"it cannot be put into {self.library.root}: {error.strerror or error}"
            raise SetbackError(Setback("unwritable", told)) from error
        async with aclosing(self._told(kept, finishing.said(), work)) as events:
            async for one in events:
                yield one

    async def _told(self, kept: Kept, warnings: tuple[str, ...], work: WorkFolder) -> AsyncGenerator[Event]:
        """It lies in its place: tell everyone."""
        sidecar = kept.sidecar
        try:
            await self.context.service(Log).append(sidecar.new_event(), timeout=APPEND_WITHIN)
            reach("download.video_told")
            await in_thread(self.library.sidecars.mark_logged, sidecar.video)
        except LogUnavailableError as error:
            self.context.log.warning("log is down: the event of a stored download follows", error=str(error))
        yield DownloadStored(
            take=self.started.take,
            video=sidecar.video,
            path=sidecar.event.path,
            size=sidecar.event.size,
            files=kept.files,
            warnings=warnings,
        )
        reach("download.stored")
        await in_thread(work.discard)
        self.context.log.info("download stored", video=sidecar.video, path=sidecar.event.path, size=sidecar.event.size)

    def _former(self) -> Former:
        """What earlier takes put into the media root: it is replaced where it has the same name."""
        paths: set[str] = set()
        for one in self.at.history:
            if isinstance(one.event, DownloadStored) and one.event.take < self.started.take:
                paths |= {one.event.path, *one.event.files}
        return Former(frozenset(paths))

    async def _playlist(self) -> str:
        if self.at.state.parent is None:
            return ""
        histories = self.context.service(Histories)  # type: ignore[type-abstract]
        parent = fold(await histories.history(download_subject(self.at.state.parent)))
        return parent.title if parent is not None else ""


_NOT_THE_FILES = frozenset({"timeout", "stalled", "killed", "disk_full", "unwritable", "unavailable", "memory"})
"""Failures of merging that say nothing against what was fetched."""


async def _to_its_end(job: asyncio.Future[T]) -> T:
    """What a thread answers. Whoever is cancelled meanwhile still waits: the thread uses the work folder."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.gather(job, return_exceptions=True)
        raise
