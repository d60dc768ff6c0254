"""Does one download from end to end: reads the page, fetches, merges, and puts it into the media root.

Its turn has come (`DownloadStarted`); whoever gave it knows of limits, this one does not. What fails is sorted here:
tried again later, or given up, and said either way. Whoever dies in the middle leaves a work folder in which the next
attempt goes on; what lies in the media root already is recognised, and never fetched twice.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from processors.download_failures import Setback, Standing
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
from processors.storage.disk import Marks, require_space
from processors.storage.library import Former, Kept, Library
from processors.storage.library_folders import LeadsOutError
from processors.storage.library_unfinished import prepared
from processors.storage.library_work import WorkFolder, WorkHeldError, folder_of, held
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.download_config import MAX_CONCURRENCY, DownloadConfig
from streams.downloads import GROUP, PARKED, Download, fold
from streams.errors import (
    LogUnavailableError,
    RejectedError,
    SettingsError,
    TransientError,
)
from streams.events import (
    DownloadExtracted,
    DownloadFailed,
    DownloadMerged,
    DownloadPartFinished,
    DownloadPostponed,
    DownloadSkipped,
    DownloadStarted,
    DownloadStored,
    Event,
)
from streams.identity import download_subject, downloaded_video_id
from streams.log import Log
from streams.paths import OsPath
from streams.processing import Context, First, processor
from streams.progress import Progress, Publisher
from streams.queries import Downloads, Histories

T = TypeVar("T")

LOOK = 0.3
"""Seconds between two looks whether anybody still wants it."""

LOOK_WITHIN = 1.0
"""Seconds that a look may take."""

ROOM_LOOK = 3.0
"""Seconds between two looks at the disk."""

LOCK_WITHIN = 15.0
"""Seconds that another process gets to let go of the work folder."""

APPEND_WITHIN = 2.0
"""Seconds that the video's own first event waits for the log here; else it follows by itself."""

TASK = "download"


class _UnwantedError(Exception):
    """Nobody wants it any more."""


class _SetbackError(Exception):
    """It does not go on."""

    def __init__(self, setback: Setback) -> None:
        super().__init__(setback.reason)
        self.setback = setback


@processor(GROUP, on=DownloadStarted, concurrency=MAX_CONCURRENCY, alias=("downloads",))
async def download(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Do what was started, to its end or as far as it goes now."""
    history = await context.service(Histories).history(recorded.subject)  # type: ignore[type-abstract]
    state = fold(history)
    if state is None:
        return
    running = _Downloading(recorded.subject, recorded.event, state, history, context)
    async with aclosing(running.events()) as events:
        async for event in events:
            yield event


@dataclass(slots=True)
class _Downloading:
    """One attempt."""

    subject: str
    started: DownloadStarted
    state: Download
    history: Sequence[Recorded[Any]]
    context: Context
    library: Library = field(init=False)
    video: str = field(init=False)
    page: Extracted | None = None
    fresh: bool = True
    """Nothing was left by an earlier attempt."""
    began: float = field(default_factory=time.monotonic)
    received: datetime = field(default_factory=lambda: datetime.now(UTC))
    looked: float = 0.0
    room_looked: float = 0.0

    def __post_init__(self) -> None:
        self.library = Library(self.context.settings)
        self.video = downloaded_video_id(self.state.key, self.started.take)

    async def events(self) -> AsyncGenerator[Event]:
        """All that happens. Raises what is our own trouble."""
        wanted = _wants(self.state, self.started)
        if not wanted and (self.state.is_open or self._is_told()):
            return  # another attempt's, or all is said
        try:
            unfinished = await in_thread(prepared, self.context.settings)
            place = folder_of(unfinished, self.state.number, self.state.key)
            async with held(place, patience=LOCK_WITHIN) as work:
                async with aclosing(self._in(work, wanted=wanted)) as events:
                    async for event in events:
                        yield event
        except WorkHeldError as error:
            raise TransientError("another process still works on this download", retry_after=1.0) from error
        except (OSError, SettingsError) as error:
            told = getattr(error, "strerror", None) or str(error)
            yield self._outcome(Setback("unwritable", f"what comes down cannot be kept: {told}"))

    def _is_told(self) -> bool:
        """Whether the log knows what this take put into the media root."""
        return any(
            isinstance(one.event, DownloadStored) and one.event.take == self.started.take for one in self.history
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
            yield self._outcome(Setback("interrupted", "whoever fetched it was stopped"))
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
        except _UnwantedError:
            self.context.log.info("download is not wanted any more")
            await in_thread(self._discard, work)
            return
        except _SetbackError as error:
            closing = self._outcome(error.setback)
        yield closing
        reach("download.put_off")
        if isinstance(closing, DownloadFailed):
            await in_thread(self._discard, work)

    def _discard(self, work: WorkFolder) -> None:
        """Nothing of this take is needed any more."""
        self.library.undo(work)
        work.discard()

    def _outcome(self, setback: Setback) -> DownloadPostponed | DownloadFailed:
        standing = Standing(
            self.started.take,
            self.started.attempt,
            self.state.failures,
            self.history,
            self._config(),
            self.context.settings,
            datetime.now(UTC),
        )
        event = standing.outcome(setback)
        self.context.log.info(
            "download does not go on", outcome=type(event).__name__, kind=event.kind, reason=event.reason
        )
        return event

    def _config(self) -> DownloadConfig:
        try:
            return DownloadConfig.model_validate(self.started.config)
        except ValidationError:  # of another version than this
            known = {name: value for name, value in self.started.config.items() if name in DownloadConfig.model_fields}
            with suppress(ValidationError):
                return DownloadConfig.model_validate(known)
            return DownloadConfig()

    # ---------------------------------------------------------------- fetching

    async def _fetched(self, work: WorkFolder) -> AsyncGenerator[Event]:
        """Fetch it and put it into its place. Raises _UnwantedError, _SetbackError."""
        config = self._config()
        folder = await in_thread(work.fetching, self.started.take)
        self.fresh = not await in_thread(os.listdir, folder)
        await self._require_room(folder, 0)
        job = FetchJob(self.state.url, OsPath(str(folder)), config)
        end: Fetched | Listed | None = None
        skipped: DownloadSkipped | None = None
        fetcher = self.context.service(Fetcher)  # type: ignore[type-abstract]
        async with aclosing(self._watched(fetcher.fetch(job))) as answers:
            async for answer in answers:
                match answer:
                    case Extracted():
                        self.page = self._titled(answer)
                        yield self._extracted(self.page)
                        reach("download.extracted")
                        if (skipped := await self._skipped(config)) is not None:
                            break
                        await self._require_room(folder, answer.size or 0)
                    case Received():
                        await self._tell(answer)
                        await self._look_at_room(folder)
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
                            raise _SetbackError(Setback("interrupted", "the worker is stopping"))
                        raise _SetbackError(Setback.of_fetching(answer))
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
            raise _SetbackError(Setback("crashed", "the process that fetched it ended without a word"))

    def _titled(self, page: Extracted) -> Extracted:
        """A bare file is called by its name only; the list that named it may know more."""
        requested = self.history[0].event.title if self.history else ""
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
        key = replace(self.state, entry=entry, audio_only=config.audio_only).archive_key
        assert key is not None
        found = (await self.context.service(Downloads).fetched([key])).get(key)  # type: ignore[type-abstract]
        if found is None or found.number == self.state.number:
            return None
        if not await in_thread(self.library.is_there, found.video, found.path):
            return None
        return DownloadSkipped(take=self.started.take, number=found.number, video=found.video, path=found.path)

    async def _expanded(self, listed: Listed, config: DownloadConfig) -> Event:
        try:
            return await expanded(listed, self.state, config.audio_only, config.limit, self.context, self._look)
        except TooDeepError as error:
            raise _SetbackError(Setback("unsupported", str(error))) from error

    # ---------------------------------------------------------------- finishing

    async def _finished(
        self, fetched: Fetched, page: Extracted, config: DownloadConfig, work: WorkFolder
    ) -> AsyncGenerator[Event]:
        """Merge it, and put it into the media root. Raises _UnwantedError, _SetbackError."""
        size = sum(one.size for one in fetched.media)
        await self._require_room(work.path, size)
        finishing = Finishing(self.state, page, fetched, config, await self._playlist(), await in_thread(work.making))
        studio = self.context.service(Studio)  # type: ignore[type-abstract]
        async with aclosing(self._watched(finishing.merge(studio), finishing=True)) as answers:
            async for answer in answers:
                if isinstance(answer, MediaFailure):
                    setback = Setback.of_finishing(answer, fresh=self.fresh)
                    if answer.kind not in _NOT_THE_FILES:
                        await in_thread(work.forget_fetched, self.started.take)
                    raise _SetbackError(setback)
        if finishing.finished is None:
            raise _SetbackError(Setback("crashed", "the process that merged it ended without a word"))
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
        await self._look(at_once=True)
        if (skipped := await self._skipped(config)) is not None:  # fetched by another one meanwhile
            yield skipped
            await in_thread(self._discard, work)
            return
        event = finishing.event(self.received, time.monotonic() - self.began)
        try:
            kept = await _to_its_end(in_thread(self.library.place, self.video, ready, event, work, self._former()))
        except LeadsOutError as error:
            raise _SetbackError(Setback("refused", str(error))) from error
        except OSError as error:
            told = f"it cannot be put into {self.library.root}: {error.strerror or error}"
            raise _SetbackError(Setback("unwritable", told)) from error
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
        for one in self.history:
            if isinstance(one.event, DownloadStored) and one.event.take < self.started.take:
                paths |= {one.event.path, *one.event.files}
        return Former(frozenset(paths))

    async def _playlist(self) -> str:
        if self.state.parent is None:
            return ""
        histories = self.context.service(Histories)  # type: ignore[type-abstract]
        parent = fold(await histories.history(download_subject(self.state.parent)))
        return parent.title if parent is not None else ""

    # ---------------------------------------------------------------- on the way

    async def _watched(self, answers: AsyncGenerator[T], *, finishing: bool = False) -> AsyncGenerator[T]:
        """The answers, for as long as anybody wants them. Raises _UnwantedError, _SetbackError."""
        async with aclosing(answers):
            following = asyncio.ensure_future(anext(answers, None))
            try:
                while True:
                    while not following.done():
                        await asyncio.wait({following}, timeout=LOOK)
                        self.context.beat()
                        self._stop_if_draining(finishing=finishing)
                        await self._look()
                    answer = following.result()
                    if answer is None:
                        return
                    await self._look()
                    yield answer
                    following = asyncio.ensure_future(anext(answers, None))
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following

    def _stop_if_draining(self, *, finishing: bool) -> None:
        """What comes from outside goes on later; merging is soon done."""
        if self.context.draining.is_set() and not finishing:
            raise _SetbackError(Setback("interrupted", "the worker is stopping"))

    async def _look(self, *, at_once: bool = False) -> None:
        """Raise _UnwantedError where it was cancelled, deleted or begun anew. A log that is away says nothing."""
        now = time.monotonic()
        if now - self.looked < LOOK and not at_once:
            return
        self.looked = now
        log = self.context.service(Log)
        with suppress(LogUnavailableError, TimeoutError):
            async with asyncio.timeout(LOOK_WITHIN):
                if await log.version(self.subject) == self.state.ver:
                    return
                state = fold(await log.history(self.subject))
            if state is not None:
                self.state = state
                if not _wants(state, self.started):
                    raise _UnwantedError

    async def _require_room(self, folder: Path, size: int) -> None:
        """Raise _SetbackError where the disk has no room for so many bytes beside what is there already."""
        try:
            there = await in_thread(_size_below, folder) if size else 0
            await in_thread(require_space, folder, max(0, size - there), Marks.of(self.context.settings))
        except RejectedError as error:
            raise _SetbackError(Setback("no_space", str(error))) from error

    async def _look_at_room(self, folder: Path) -> None:
        now = time.monotonic()
        if now - self.room_looked >= ROOM_LOOK:
            self.room_looked = now
            await self._require_room(folder, 0)

    async def _tell(self, received: Received) -> None:
        details = {"bytes": received.bytes, "total": received.total, "speed": received.speed, "eta": received.eta}
        of = "" if received.total is None else f" of {received.total / 2**20:.1f}"
        speed = "" if received.speed is None else f", {received.speed / 2**20:.2f} MB/s"
        message = f"{received.bytes / 2**20:.1f}{of} MB{speed}"
        if received.parts > 1:
            message = f"{received.part} ({received.number + 1} of {received.parts}): {message}"
        percent = round(received.percent or 0.0, 1)
        await self.context.service(Publisher).tell(Progress(self.subject, TASK, percent, message, details))


_NOT_THE_FILES = frozenset({"timeout", "stalled", "killed", "disk_full", "unwritable", "unavailable", "memory"})
"""Failures of merging that say nothing against what was fetched."""


def _wants(state: Download, started: DownloadStarted) -> bool:
    """Whether this attempt is the one that is to be made."""
    current = (state.take, state.attempt) == (started.take, started.attempt)
    return current and (state.status == "Processing" or state.error == PARKED)


def _size_below(folder: Path) -> int:
    """Bytes of the files in a folder and below."""
    return sum(
        os.stat(os.path.join(above, name), follow_symlinks=False).st_size
        for above, _, names in os.walk(folder)
        for name in names
    )


async def _to_its_end(job: asyncio.Future[T]) -> T:
    """What a thread answers. Whoever is cancelled meanwhile still waits: the thread uses the work folder."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.gather(job, return_exceptions=True)
        raise
