"""What an upload's answer says of Google Drive: it waits until the copy is there, or it is known why not.

Uploading is the `drive` processor's work, in a worker; this only looks on. Failures that may pass by
themselves are waited out. An answer comes at once where waiting cannot help: Drive is configured by
half, the worker says that Drive cannot be used just now (its breaker is open), or the upload was parked.
Each of these is an episode of failures, and told to the log where the processor had no chance to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from api.draining import Draining
from api.services import Stored
from processors.copies import Copies, fold
from processors.storage.drive_account import UNUSABLE
from streams.codec import Recorded
from streams.entries import new_event
from streams.errors import ConflictError, LogUnavailableError, SpoolhouseError
from streams.events import DriveUploadCompleted, DriveUploadFailed, EntryParked, VideoStored
from streams.health import Account, accounts
from streams.keys import partition_of
from streams.log import Log
from streams.settings import Settings

GROUP = "drive"
"""The processor that copies to Drive."""

LOOK = 1.0
"""Seconds between two looks at what the workers say."""

PATIENCE = 10.0
"""Seconds for which there may be no worker, or no log, before waiting for them makes no sense."""

TRIES = 10
"""How often an episode is told anew because something else was written first."""

_ANSWERS = frozenset({DriveUploadCompleted.__name__, EntryParked.__name__})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failed:
    """The video is not in Drive, and waiting does not help; it is tried again by itself where that can help."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """The copy follows later."""

    reason: str


Outcome = DriveUploadCompleted | Failed | Pending


class DriveWaiting:
    """Waits for Drive on behalf of uploads. One for an application: what workers say is asked once for all."""

    def __init__(self, log: Log, settings: Settings, draining: Draining) -> None:
        self._log, self._settings, self._draining = log, settings, draining
        self._asking = asyncio.Lock()
        self._told: list[Account] = []
        self._told_at = 0.0
        self._without_log_since: float | None = None

    async def outcome(self, stored: Stored, gone: Callable[[], bool]) -> Outcome:
        """Wait `settings.drive_wait` seconds at most, and less where the process ends or the client is `gone()`.

        The log must have the video's event.
        """
        if (reason := _half_configured(self._settings)) is not None:
            return await self._failed(stored.video, reason)
        until = time.monotonic() + self._settings.drive_wait
        answer = asyncio.create_task(self._answer(stored.video))
        asked = asyncio.create_task(self._draining.asked.wait())
        without_worker: float | None = None
        try:
            while True:
                await asyncio.wait({answer, asked}, timeout=_between(until), return_when=asyncio.FIRST_COMPLETED)
                now = time.monotonic()
                if answer.done():
                    if (error := answer.exception()) is not None:
                        _log.error("history of an upload cannot be read", video=stored.video, error=str(error))
                        return Pending("its history cannot be read")
                    found = answer.result()
                    return found if isinstance(found, DriveUploadCompleted) else await self._failed(*found)
                if asked.done() or gone() or now >= until:
                    return Pending("no answer in time")
                workers = await self._workers()
                if workers is None:
                    without_log = self._without_log_since or now
                    if now - without_log > PATIENCE:
                        return Pending("the log is down")
                    continue
                if (reason := self._refused(workers, stored.video)) is not None:
                    return await self._failed(stored.video, reason)
                without_worker = None if _at_work(workers) else without_worker or now
                if without_worker is not None and now - without_worker > PATIENCE:
                    return Pending("no worker copies to Drive")
        finally:
            for task in (answer, asked):
                task.cancel()
            await asyncio.gather(answer, asked, return_exceptions=True)

    async def _answer(self, video: str) -> DriveUploadCompleted | tuple[str, str]:
        """The completed upload, or (video, reason) where it was parked; for ever where neither comes."""
        after = 0
        while True:
            found: Recorded[Any] | None = await self._log.wait_for(video, _ANSWERS, after=after, timeout=3600.0)
            if found is None:
                continue
            after = found.ver
            if isinstance(found.event, DriveUploadCompleted):
                return found.event
            if found.event.group == GROUP:
                return video, found.event.reason

    async def _workers(self) -> list[Account] | None:
        """What the living workers said within the last second; None where the log cannot be asked."""
        async with self._asking:
            now = time.monotonic()
            if now - self._told_at >= LOOK / 2:
                try:
                    self._told = await accounts(self._log)
                except LogUnavailableError:
                    self._without_log_since = self._without_log_since or now
                else:
                    self._without_log_since = None
                self._told_at = time.monotonic()
            return None if self._without_log_since is not None else self._told

    def _refused(self, workers: list[Account], video: str) -> str | None:
        """Why the worker that has this video cannot use Drive just now, where that is so."""
        partition = partition_of(video, self._log.partitions)
        for worker in workers:
            for group in worker.groups:
                if group.group == GROUP and partition in group.partitions and group.breaker is not None:
                    return group.breaker
        return None

    async def _failed(self, video: str, reason: str) -> Outcome:
        """The failure; told to the log as an episode unless one is open. The completed upload, if that was faster."""
        reason = reason.removeprefix("Google Drive: ")
        try:
            for _ in range(TRIES):
                history = await self._log.history(video)
                facts = fold(history)
                copy = facts.drive_copy()
                if copy is not None and copy.completed is not None:
                    return copy.completed
                if facts.failing:
                    break
                try:
                    await self._tell(facts, history, reason)
                except ConflictError:
                    continue
                break
        except SpoolhouseError as error:  # then whoever tries next tells it
            _log.warning("failed Drive upload could not be told", video=video, error=str(error))
        return Failed(reason)

    async def _tell(self, facts: Copies, history: list[Recorded[Any]], reason: str) -> None:
        """Append the episode, as the processor would: whichever of the two is first, it stands there once."""
        cause = next((one for one in history if isinstance(one.event, VideoStored)), None)
        if cause is None:
            return
        event = DriveUploadFailed(
            revision=facts.revision,
            filename=facts.filename,
            path=cause.event.path,
            door=cause.event.door,
            episode=facts.episode + 1,
            reason=reason,
            begun=facts.drive_copy() is not None,
        )
        await self._log.append(new_event(facts.video, event, source=GROUP, cause=cause, expected=facts.ver))


DRIVE = web.AppKey("drive", DriveWaiting)


def _between(until: float) -> float:
    return max(0.0, min(LOOK, until - time.monotonic()))


def _at_work(workers: list[Account]) -> bool:
    return any(group.group == GROUP for worker in workers for group in worker.groups)


def _half_configured(settings: Settings) -> str | None:
    """What is missing where only one of folder and credentials is there."""
    if settings.drive_folder_id is None:
        return f"{UNUSABLE}: DRIVE_FOLDER_ID is not set"
    if settings.drive_credentials_file is None:
        return f"{UNUSABLE}: there is no credentials.json (SPOOLHOUSE_DRIVE_CREDENTIALS)"
    return None
