"""Looks through all videos for local copies that may be given up, and says of each why or why not.

    async for outcome in Retention(log, catalogue, settings, store, drive).look(days=30):
        print(outcome.path, outcome.verdict, outcome.reason)

What must be so before a file goes is in `offloading`. Nothing is deleted while the log, the
catalogue or one of the places that hold copies is down.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import structlog

from processors.offloading import NAMES, KeptError, Offloader
from processors.ports import Drive, ObjectStore
from processors.storage.offloads import Offload
from processors.storage.originals import NotOursError, NotThereError
from streams.background import stop_if_cancelled
from streams.errors import ConflictError, SpoolhouseError, TransientError, UndecodableError
from streams.log import Log
from streams.paths import OsPath, escape_path
from streams.queries import Replicas, VideoCopies
from streams.settings import Settings

_log = structlog.get_logger(__name__)

TRIES = 3
"""How often a decision is made anew because someone else wrote about the video meanwhile."""

CATCH_UP = 10.0
"""Seconds that the catalogue gets to follow the log first; what it lacks then is for the next look."""

SOONER = 60.0
"""Seconds until the next look after one that failed, at the most."""

Verdict = Literal["deleted", "would delete", "kept"]

_STAYS = (KeptError, NotOursError, NotThereError, UndecodableError, TransientError, OSError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one local copy, and why."""

    video: str
    path: OsPath
    size: int
    """Bytes."""
    verdict: Verdict
    reason: str
    freed: int = 0
    """Bytes that the disk has more (or would have); 0 for a file that has other names."""
    unasked: bool = False
    """It lies in a watched root, or in the media root, that did not opt in: nothing was looked at."""


class Retention:
    """Everything that is old enough, one after the other."""

    def __init__(
        self, log: Log, replicas: Replicas, settings: Settings, store: ObjectStore | None, drive: Drive | None
    ) -> None:
        """`store` and `drive` as they are configured."""
        self._replicas, self._settings = replicas, settings
        self._offloader = partial(Offloader, log, settings, store, drive)
        self._said: dict[str, str] = {}

    def misnamed(self) -> str | None:
        """What is wrong with the roots that opted in, in words: one that no one watches is a slip, most likely."""
        known = {*self._settings.watch_roots, Path(os.path.normpath(self._settings.downloads))}
        strange = [one for one in self._settings.retention_watch if one not in known]
        if not strange:
            return None
        return f"SPOOLHOUSE_RETENTION_WATCH names {', '.join(map(str, strange))}, which is neither watched nor the media root"

    async def run(self) -> None:
        """Look for ever, every `retention_interval`; the source of a worker where `retention_days` is set."""
        days = self._settings.retention_days
        if days is None:
            raise ValueError("retention runs by itself only where retention_days is set")
        if reason := self.misnamed():
            _log.warning(reason)
        while True:
            stop_if_cancelled()
            pause = self._settings.retention_interval
            try:
                await self._look_and_tell(days)
            except SpoolhouseError as error:
                _log.warning("retention stopped: nothing more is deleted for now", reason=str(error))
                pause = min(pause, SOONER)
            await asyncio.sleep(pause)

    async def look(self, days: float, *, dry_run: bool = False) -> AsyncIterator[Outcome]:
        """Give up what may be given up of what came in more than `days` days ago; each with the reason.

        `dry_run`: nothing changes, neither files nor log. Raises LogUnavailableError and
        DependencyDownError (the catalogue): what was not told of by then was not touched.
        """
        before = datetime.now(UTC) - timedelta(days=days)
        offloader = self._offloader()
        # A log that does not answer ends the look here, before anything is touched.
        await self._replicas.copies_caught_up(CATCH_UP)
        if not dry_run:
            await offloader.prepare()
        for note in await offloader.unfinished():
            if (outcome := await self._finish(offloader, note, dry_run=dry_run)) is not None:
                yield outcome
        async for video in self._replicas.copies(state="present", created_before=before):
            yield await self._decide(offloader, video, before, dry_run=dry_run)

    async def _decide(self, offloader: Offloader, video: VideoCopies, before: datetime, *, dry_run: bool) -> Outcome:
        try:
            offloader.require_opted_in(video.door, video.root)
        except KeptError as error:
            return Outcome(video.id, video.path, video.size, "kept", str(error), unasked=True)
        reason = "others keep writing about it: the next look decides"
        for _ in range(TRIES):
            try:
                freed = await offloader.weigh(video.id, before, write=not dry_run)
                if not dry_run:
                    freed = await offloader.give_up(video.id, before)
            except ConflictError:
                continue
            except _STAYS as error:
                reason = str(error)
                break
            whole = " and ".join(NAMES[place] for place in offloader.places)
            verdict: Verdict = "would delete" if dry_run else "deleted"
            return Outcome(video.id, video.path, video.size, verdict, f"its copy is whole in {whole}", freed)
        return Outcome(video.id, video.path, video.size, "kept", reason)

    async def _finish(self, offloader: Offloader, note: Offload, *, dry_run: bool) -> Outcome | None:
        """Remove a file that the log says is offloaded; None where it does not, and only a note was left."""
        size = note.file.size
        interrupted = "it was offloaded before; its removal had been interrupted"
        try:
            due = await offloader.weigh_unfinished(note.video, write=not dry_run)
            if dry_run:
                return Outcome(note.video, note.path, size, "would delete", interrupted, size) if due else None
            freed = await offloader.finish(note.video)
        except (*_STAYS, ConflictError) as error:
            return Outcome(note.video, note.path, size, "kept", f"it is offloaded, yet a file lies there: {error}")
        return None if freed is None else Outcome(note.video, note.path, size, "deleted", interrupted, freed)

    async def _look_and_tell(self, days: float) -> None:
        """Look, and log what is new: a file that stays for the same reason as before is not named again."""
        deleted = kept = freed = unasked = 0
        said: dict[str, str] = {}
        async for one in self.look(days):
            if one.verdict == "deleted":
                deleted, freed = deleted + 1, freed + one.freed
                _log.info("local copy deleted", video=one.video, path=escape_path(one.path), reason=one.reason)
                continue
            kept += 1
            if one.unasked:
                unasked += 1
                continue
            said[one.video] = one.reason
            if self._said.get(one.video) != one.reason:
                _log.info("local copy kept", video=one.video, path=escape_path(one.path), reason=one.reason)
        if deleted or said != self._said:
            _log.info("retention looked", days=days, deleted=deleted, freed=freed, kept=kept, watched_originals=unasked)
        self._said = said
