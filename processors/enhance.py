"""Makes what every browser plays: renditions in H.264 and AAC, and ladders for adaptive streaming.

A rendition is a video of its own, with its own history: it is copied, verified, offloaded and restored like any
other. Its name tells what it was made of and with, so a repeat finds it and makes nothing. The work is done by a
process that may die, hang or run out of memory over a hostile file; this one only watches it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from processors.copies import Copies, fold
from processors.media_failures import reason_of, unwritable
from processors.ports import Advanced, EnhanceJob, Made, MediaFailure, Planned, Probed, Prober, Studio
from processors.storage.disk import Marks, require_space
from processors.storage.renditions import BusyError, Making, Renditions, content_of
from processors.storage.threads import in_thread
from processors.wishes import Wanted, Wish, file_name, ids_of, progressive, rungs, stored_renditions, wish_of
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import DependencyDownError, DrainingError, RejectedError, TransientError
from streams.events import (
    EnhancementCompleted,
    EnhancementFailed,
    EnhancementRequested,
    EnhancementStarted,
    Event,
    FileSettled,
    RenditionStored,
    VideoStored,
)
from streams.media import Task
from streams.paths import OsPath
from streams.processing import Context, First, processor
from streams.progress import Progress, Publisher
from streams.queries import Histories

TASK: Task = "video-enhancement"

LAST_SHARE = 0.8
"""Of the time that running work gets to finish: the rest is for putting away what it made."""

EXTENSIONS = {"webm": ".webm"}
"""Container → ending of the file name, where it is not `.mp4`."""


class _FailedError(Exception):
    """This content cannot be made into it; the message is the reason."""


class _SupersededError(Exception):
    """What was wanted of this content is wanted no longer; the message says why. A later event tells of what is."""


@processor(
    "enhance",
    on=(VideoStored, FileSettled, EnhancementRequested),
    concurrency=lambda settings: settings.enhance_concurrency,
    alias=("video-enhancement",),
)
async def enhance(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Make what is wanted of the video's current content and is not there yet."""
    wish = wish_of(recorded.event, context.settings)
    if wish is None:
        return
    history = await context.service(Histories).history(recorded.subject)  # type: ignore[type-abstract]
    facts = fold(history)
    enhancing = _Enhancing(facts, wish, context, stored_renditions(history))
    try:
        _require_current(facts, recorded.event)
        _require_wanted(facts, wish, recorded.event, context)
        async with aclosing(enhancing.events()) as events:
            async for event in events:
                yield event
    except _FailedError as error:
        context.log.warning("video cannot be enhanced", reason=str(error))
        yield EnhancementFailed(revision=facts.revision, preset=wish.preset, reason=str(error))
    except _SupersededError as error:
        context.log.info("video is not enhanced", reason=str(error))
        if isinstance(recorded.event, EnhancementRequested):  # somebody waits for a word
            yield EnhancementFailed(revision=recorded.event.revision, preset=wish.preset, reason=str(error))


def _require_current(facts: Copies, event: Any) -> None:
    if facts.state == "removed":
        raise _SupersededError("the file was removed")
    if event.revision < facts.revision:
        raise _SupersededError("the file was replaced by newer content")


def _require_wanted(facts: Copies, wish: Wish, event: Event, context: Context) -> None:
    settings = context.settings
    if settings.enhance == "off" and not isinstance(event, EnhancementRequested):
        raise _FailedError("enhancement is switched off (SPOOLHOUSE_ENHANCE=off): ask for it by `spoolhouse enhance`")
    if wish.preset not in settings.all_presets:
        known = ", ".join(sorted(settings.all_presets))
        raise _FailedError(f"there is no preset {wish.preset!r} (SPOOLHOUSE_PRESETS); there are {known}")
    if facts.state == "offloaded":
        raise _FailedError(
            f"its local copy was given up: `spoolhouse restore {facts.video}` brings it back, "
            f"`spoolhouse enhance {facts.video}` then makes the rendition"
        )


@dataclass(slots=True)
class _Pace:
    """How fast one piece of work goes on."""

    percent: float | None = None
    began: float = field(default_factory=time.monotonic)
    stops: float | None = None
    """When whoever wants to stop stops."""

    def patience(self, drain: float) -> float:
        """Seconds that are left to finish in; 0 where it will not have ended by then, as it looks."""
        now = time.monotonic()
        self.stops = self.stops or now + drain * LAST_SHARE
        left = self.stops - now
        if not self.percent:
            return 0.0
        needed = (now - self.began) * (100.0 - self.percent) / self.percent
        return left if needed < left else 0.0


@dataclass(slots=True)
class _Enhancing:
    """One run over one video."""

    facts: Copies
    wish: Wish
    context: Context
    stored: dict[str, RenditionStored]
    """What the history tells of, by id."""
    renditions: Renditions = field(init=False)
    made: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.renditions = Renditions(self.context.settings)

    async def events(self) -> AsyncGenerator[Event]:
        """Make each rendition that is not there. Raises _FailedError and whatever makes it worth another try."""
        settings, preset = self.context.settings, self.context.settings.all_presets[self.wish.preset]
        wanted = [progressive(self.wish, preset, settings)]
        if self.wish.hls:
            wanted += rungs(self.wish, preset, settings, await self._height())
        for number, one in enumerate(wanted):
            async with aclosing(self._rendition(one, number, len(wanted))) as events:
                async for event in events:
                    yield event
        yield EnhancementCompleted(
            revision=self.facts.revision, preset=self.wish.preset, renditions=tuple(dict.fromkeys(self.made))
        )
        reach("enhance.completed")

    async def _height(self) -> int:
        found = await self.context.service(Prober).probe(self._source())  # type: ignore[type-abstract]
        if isinstance(found, Probed):
            return found.height
        if found.kind == "unavailable":
            raise DependencyDownError("the prober", found.reason)
        raise _FailedError(found.reason)

    # ------------------------------------------------------------ one rendition

    async def _rendition(self, wanted: Wanted, number: int, of: int) -> AsyncGenerator[Event]:
        rendition, there = await in_thread(self._found, wanted)
        if there is not None:
            self.made.append(rendition)
            if rendition not in self.stored:  # the process died just before it could say so
                yield there
            return
        await self._require_room()
        try:
            async with self.renditions.making(rendition) as making:
                async with aclosing(self._making(wanted, rendition, making, number, of)) as events:
                    async for event in events:
                        yield event
        except BusyError as error:
            raise TransientError(
                "another process is making this rendition; if it ends without one, it is made here"
            ) from error
        except OSError as error:
            raise unwritable(self.renditions.folder, error.strerror or str(error)) from error

    def _found(self, wanted: Wanted) -> tuple[str, RenditionStored | None]:
        """What was made of this content already, else the id under which it can be made."""
        content = content_of(self.facts)
        for rendition in ids_of(wanted, self.facts):
            if (there := self.renditions.there(rendition, content)) is not None:
                return rendition, there
            if rendition not in self.stored and not self.renditions.is_known(rendition):
                return rendition, None
        raise _FailedError("it was made too often; remove what is not needed from the folder of renditions")

    async def _making(
        self, wanted: Wanted, rendition: str, making: Making, number: int, of: int
    ) -> AsyncGenerator[Event]:
        began, before = time.monotonic(), await self._identity()
        made: Made | None = None
        job = self._job(wanted, rendition, making)
        async with aclosing(self._studio(job)) as answers:
            async for answer in answers:
                match answer:
                    case Planned():
                        yield EnhancementStarted(
                            revision=self.facts.revision,
                            preset=wanted.preset,
                            kind=wanted.kind,
                            height=answer.height,
                            action=answer.action,
                            reason=answer.reason,
                            encoder=answer.encoder,
                        )
                        reach("enhance.started")
                    case Advanced():
                        await self._tell(answer, number, of)
                    case Made():
                        made = answer
                    case MediaFailure():
                        raise _FailedError(reason_of(answer, self.renditions.folder, self.context))
        if made is None:
            raise TransientError("the process that made the rendition ended without a word")
        reach("enhance.made")
        if await self._identity() != before:
            raise _SupersededError("the file changed while a rendition was made of it")
        stored = await in_thread(
            making.keep,
            file_name(wanted, self.facts),
            EXTENSIONS.get(made.container, ".mp4"),
            self._event(wanted, rendition, made, time.monotonic() - began),
            source=self.facts,
        )
        reach("enhance.kept")
        self.made.append(rendition)
        self.context.log.info(
            "rendition stored",
            rendition=rendition,
            path=stored.path,
            action=stored.action,
            seconds=stored.seconds,
            cpu_seconds=made.cpu_seconds,
            peak_memory=made.peak_memory,
        )
        yield stored
        reach("enhance.stored")

    async def _studio(self, job: EnhanceJob) -> AsyncGenerator[Planned | Advanced | Made | MediaFailure]:
        """What the studio answers; ends with DrainingError where the worker wants to stop and it would take too long."""
        pace = _Pace()
        async with aclosing(self.context.service(Studio).enhance(job)) as answers:  # type: ignore[type-abstract]
            following = asyncio.ensure_future(anext(answers, None))
            try:
                while True:
                    await self._wait_for(following, pace)
                    answer = following.result()
                    if answer is None:
                        return
                    self.context.beat()
                    if isinstance(answer, Advanced):
                        pace.percent = answer.percent
                    yield answer
                    following = asyncio.ensure_future(anext(answers, None))
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following

    async def _wait_for(self, following: asyncio.Future[Any], pace: _Pace) -> None:
        """Return when there is an answer. Raises DrainingError where the work will not end in the time that is left."""
        draining = asyncio.ensure_future(self.context.draining.wait())
        try:
            while not following.done():
                limit = pace.patience(self.context.settings.drain) if draining.done() else None
                if limit is not None and limit <= 0:
                    raise DrainingError("the worker is stopping; this rendition is made elsewhere")
                watched = {following} if draining.done() else {following, draining}
                await asyncio.wait(watched, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()

    def _job(self, wanted: Wanted, rendition: str, making: Making) -> EnhanceJob:
        settings = self.context.settings
        return EnhanceJob(
            path=self._source(),
            target=OsPath(str(making.path)),
            kind=wanted.kind,
            mode="always" if wanted.mode == "always" else "auto",
            preset=settings.all_presets[wanted.preset].model_dump(),
            height=wanted.height,
            segment=settings.hls_segment,
            media_name=f"{rendition}.mp4",
            threads=settings.media_threads,
        )

    def _event(self, wanted: Wanted, rendition: str, made: Made, seconds: float) -> RenditionStored:
        return RenditionStored(
            revision=self.facts.revision,
            rendition=rendition,
            preset=wanted.preset,
            kind=wanted.kind,
            action=made.action,
            reason=made.reason,
            path=OsPath(""),
            playlist=None,
            mime=made.mime,
            size=0,
            sha256="",
            container=made.container,
            duration=made.duration,
            width=made.width,
            height=made.height,
            video_codec=made.video_codec,
            audio_codec=made.audio_codec,
            codecs=made.codecs,
            bit_rate=made.bit_rate,
            frames=made.frames,
            damage=made.damage,
            warnings=made.warnings,
            source_sha256=self.facts.sha256 or "",
            parameters=made.parameters,
            tools=made.tools,
            seconds=round(seconds, 3),
        )

    # ------------------------------------------------------------ on the way

    async def _tell(self, advanced: Advanced, number: int, of: int) -> None:
        """Move the bar: each of several renditions has its share of it."""
        percent = 100.0 * (number + (advanced.percent or 0.0) / 100.0) / of
        expected = "" if advanced.expected is None else f" of {advanced.expected}"
        message = f"{advanced.frames}{expected} frames" + ("" if of == 1 else f", rendition {number + 1} of {of}")
        await self.context.service(Publisher).tell(Progress(self.facts.video, TASK, round(percent, 1), message))

    async def _require_room(self) -> None:
        try:
            await in_thread(require_space, self.renditions.folder, 0, Marks.of(self.context.settings))
        except RejectedError as error:
            raise unwritable(self.renditions.folder, str(error)) from error

    def _source(self) -> OsPath:
        if self.facts.path is None:
            raise _FailedError("nothing is known of a file of it")
        return self.facts.path

    async def _identity(self) -> tuple[int, ...]:
        """What tells the source's content from another one's, without reading it."""
        try:
            found = await in_thread(os.stat, self._source())
        except OSError as error:
            if self.context.attempt < self.context.settings.attempts:
                raise TransientError(f"the file cannot be looked at: {error.strerror}") from error
            raise _FailedError(f"the file cannot be looked at: {error.strerror}") from error
        identity = (found.st_size, found.st_mtime_ns, found.st_ino)
        facts = self.facts
        if facts.door == "watch" and identity != (facts.size, facts.modified_ns, facts.inode):
            raise _SupersededError("the file is being written again: once it is complete it is another revision")
        return identity
