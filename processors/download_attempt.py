"""One attempt at a download while it is under way: whether anybody still wants it, whether there is room, how far it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from processors.download_failures import Setback, Standing
from processors.ports import Received
from processors.storage.disk import Marks, require_space
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.download_config import DownloadConfig
from streams.downloads import PARKED, Download, fold
from streams.errors import LogUnavailableError, RejectedError
from streams.events import DownloadFailed, DownloadPostponed, DownloadStarted
from streams.log import Log
from streams.processing import Context
from streams.progress import Progress, Publisher

T = TypeVar("T")

LOOK = 0.3
"""Seconds between two looks whether anybody still wants it."""

LOOK_WITHIN = 1.0
"""Seconds that a look may take."""

ROOM_LOOK = 3.0
"""Seconds between two looks at the disk."""

TASK = "download"


class UnwantedError(Exception):
    """Nobody wants it any more."""


class SetbackError(Exception):
    """It does not go on."""

    def __init__(self, setback: Setback) -> None:
        super().__init__(setback.reason)
        self.setback = setback


@dataclass(slots=True)
class Attempt:
    """What is known of it."""

    subject: str
    started: DownloadStarted
    state: Download
    """As it stood at the last look."""
    history: Sequence[Recorded[Any]]
    """As it was in the beginning."""
    context: Context
    looked: float = 0.0
    room_looked: float = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether this attempt is the one that is to be made."""
        state, started = self.state, self.started
        current = (state.take, state.attempt) == (started.take, started.attempt)
        return current and (state.status == "Processing" or state.error == PARKED)

    def outcome(self, setback: Setback) -> DownloadPostponed | DownloadFailed:
        """What is to be said where it does not go on."""
        standing = Standing(
            self.started.take,
            self.started.attempt,
            self.state.failures,
            self.history,
            self.config(),
            self.context.settings,
            datetime.now(UTC),
        )
        event = standing.outcome(setback)
        self.context.log.info(
            "download does not go on", outcome=type(event).__name__, kind=event.kind, reason=event.reason
        )
        return event

    def config(self) -> DownloadConfig:
        """What it is fetched with."""
        try:
            return DownloadConfig.model_validate(self.started.config)
        except ValidationError:  # of another version than this
            known = {name: value for name, value in self.started.config.items() if name in DownloadConfig.model_fields}
            with suppress(ValidationError):
                return DownloadConfig.model_validate(known)
            return DownloadConfig()

    async def watched(self, answers: AsyncGenerator[T], *, finishing: bool = False) -> AsyncGenerator[T]:
        """The answers, for as long as anybody wants them. Raises UnwantedError, SetbackError."""
        async with aclosing(answers):
            following = asyncio.ensure_future(anext(answers, None))
            try:
                while True:
                    while not following.done():
                        await asyncio.wait({following}, timeout=LOOK)
                        self.context.beat()
                        self._stop_if_draining(finishing=finishing)
                        await self.look()
                    answer = following.result()
                    if answer is None:
                        return
                    await self.look()
                    yield answer
                    following = asyncio.ensure_future(anext(answers, None))
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following

    def _stop_if_draining(self, *, finishing: bool) -> None:
        """What comes from outside goes on later; merging is soon done."""
        if self.context.draining.is_set() and not finishing:
            raise SetbackError(Setback("interrupted", "the worker is stopping"))

    async def look(self, *, at_once: bool = False) -> None:
        """Raise UnwantedError where it was cancelled, deleted or begun anew. A log that is away says nothing."""
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
                if not self.is_wanted:
                    raise UnwantedError

    async def require_room(self, folder: Path, size: int) -> None:
        """Raise SetbackError where the disk has no room for so many bytes beside what is there already."""
        try:
            there = await in_thread(_size_below, folder) if size else 0
            await in_thread(require_space, folder, max(0, size - there), Marks.of(self.context.settings))
        except RejectedError as error:
            raise SetbackError(Setback("no_space", str(error))) from error

    async def look_at_room(self, folder: Path) -> None:
        """Now and then, whether the disk fills up. Raises SetbackError."""
        now = time.monotonic()
        if now - self.room_looked >= ROOM_LOOK:
            self.room_looked = now
            await self.require_room(folder, 0)

    async def tell(self, received: Received) -> None:
        """Move the bar."""
        details = {"bytes": received.bytes, "total": received.total, "speed": received.speed, "eta": received.eta}
        of = "" if received.total is None else f" of {received.total / 2**20:.1f}"
        speed = "" if received.speed is None else f", {received.speed / 2**20:.2f} MB/s"
        message = f"{received.bytes / 2**20:.1f}{of} MB{speed}"
        if received.parts > 1:
            message = f"{received.part} ({received.number + 1} of {received.parts}): {message}"
        percent = round(received.percent or 0.0, 1)
        await self.context.service(Publisher).tell(Progress(self.subject, TASK, percent, message, details))


def _size_below(folder: Path) -> int:
    """Bytes of the files in a folder and below."""
    return sum(
        os.stat(os.path.join(above, name), follow_symlinks=False).st_size
        for above, _, names in os.walk(folder)
        for name in names
    )
