"""Brings the log up to what is on disk: manifests that wait, files that nobody announced.

Runs beside the doors, in whichever process; several at once do no harm. Also gives the gate its
events back when Redis lost the log's tail.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import structlog

from processors.adopting import Adopter
from processors.storage.files import digest_of, is_held, sweep
from processors.storage.offloads import Offload
from processors.storage.receiving import INCOMING, temporary_path
from processors.storage.renditions import Renditions
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.threads import in_thread
from streams.background import stop_if_cancelled
from streams.errors import LogUnavailableError, SpoolhouseError
from streams.events import VideoStored
from streams.log import Log
from streams.paths import escape_path
from streams.settings import Settings

_log = structlog.get_logger(__name__)

LOOK = 1.0
"""Seconds between looks for manifests that wait."""

SURVEY = 60.0
"""Seconds between looks for files that no manifest explains."""

LONGEST_PAUSE = 15.0
"""Seconds between attempts while the log is down."""

APPEND_WITHIN = 10.0
"""Seconds that a batch of them may take."""

State = Literal["ready", "unknown", "lost"]
"""Of a manifest's file: it lies there complete, or was given up on purpose; cannot be told now; is not there."""

BATCH = 500
"""Events that are appended at once."""


class Reconciler:
    """Appends what the log lacks of the files that lie in the upload folder."""

    def __init__(self, log: Log, settings: Settings, *, look: float = LOOK, survey: float = SURVEY) -> None:
        self._log, self._folder = log, settings.uploads
        self._sidecars, self._renditions = Sidecars(settings.sidecars), Renditions(settings)
        self._adopter = Adopter(settings.uploads, self._sidecars, settings.watch_extensions, settings.watch_still_after)
        self._look, self._survey = look, survey

    async def run(self) -> None:
        """Reconcile for ever: waiting manifests each second, the folder each minute."""
        pause, next_survey = self._look, 0.0
        while True:
            stop_if_cancelled()
            well = True
            if time.monotonic() >= next_survey:
                well = await self._tried(self.survey)
                next_survey = time.monotonic() + (self._survey if well else pause)
            well &= await self._tried(self.append_pending)
            pause = self._look if well else min(LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(pause)

    async def _tried(self, step: Callable[[], Awaitable[int]]) -> bool:
        try:
            await step()
        except LogUnavailableError as error:
            _log.warning("log is down: stored videos wait for it", error=str(error))
        except (OSError, SpoolhouseError) as error:
            _log.error("stored videos could not be reconciled; it is tried again", error=str(error))
        else:
            return True
        return False

    async def survey(self) -> int:
        """Clear up after dead processes and adopt unexplained files; returns how many were adopted."""
        for path in await in_thread(sweep, self._folder / INCOMING, now=time.time()):
            _log.warning("removed what a dead process had half received", path=str(path))
        for path in await in_thread(self._renditions.sweep, time.time()):
            _log.warning("removed what a dead process had half made", path=str(path))
        await in_thread(self._sidecars.sweep, time.time())
        unexplained = await in_thread(self._adopter.unexplained)
        if unexplained and await self._mend():
            unexplained = await in_thread(self._adopter.unexplained)
        adopted = await in_thread(self._adopter.adopt, unexplained, time.time())
        for sidecar in adopted:
            _log.info("adopted a file", video=sidecar.video, path=escape_path(sidecar.event.path))
        return len(adopted)

    async def _mend(self) -> int:
        """Write broken manifests anew from the log; else their files would be taken for unknown ones.

        Returns how many. Raises LogUnavailableError: nothing is adopted until this is known.
        """
        mended = 0
        for video in await in_thread(self._sidecars.broken):
            first = next((one for one in await self._log.history(video) if isinstance(one.event, VideoStored)), None)
            if first is not None:
                status = await in_thread(_status, Path(first.event.path))
                sidecar = Sidecar(video, first.id, first.source, first.event, status.st_ino if status else 0)
                await in_thread(self._sidecars.write, sidecar)
                _log.info("wrote a broken sidecar anew from the log", video=video)
                mended += 1
            await in_thread(self._sidecars.replaced, video)
        return mended

    async def append_pending(self) -> int:
        """Append the events of waiting manifests, oldest first; returns how many the log lacked.

        Raises LogUnavailableError; what was appended until then stays so.
        """
        if not await in_thread(self._sidecars.any_pending):
            return 0
        waiting = await in_thread(self._sidecars.pending)
        states = await in_thread(self._states, waiting)
        for sidecar, state in zip(waiting, states, strict=True):
            if state == "lost":
                await in_thread(self._sidecars.mark_lost, sidecar.video)
                _log.error(
                    "a stored video's file is not there: its manifest was set aside",
                    video=sidecar.video,
                    path=escape_path(sidecar.event.path),
                )
        ready = [one for one, state in zip(waiting, states, strict=True) if state == "ready"]
        added = await self._append(iter(ready))
        if added:
            _log.info("appended events of stored videos that the log lacked", count=added)
        return added

    async def reappend_all(self) -> int:
        """Append every manifest's event again, for a log that lost its tail; returns how many it lacked.

        Videos whose files are gone are left out, but for those that were offloaded (watched ones
        too): their notes hold all that is to be known. Raises LogUnavailableError: call it again then.
        """
        # Notes first: a file that comes back meanwhile is met by its manifest, or by both, never by neither.
        notes, added = self._offloaded(), 0
        while note := await in_thread(next, notes, None):
            placed = await self._log.append_all(note.events, timeout=APPEND_WITHIN)
            added += sum(not one.duplicate for one in placed)
        added += await self._append(one for one in self._sidecars.all() if os.path.lexists(one.event.path))
        _log.info("appended again what the log had lost of stored videos", count=added)
        return added

    def _offloaded(self) -> Iterator[Offload]:
        """Notes of videos whose files are not there: while one is, its video was not offloaded yet, or is back."""
        return (note for note in self._sidecars.offloads.all() if not os.path.lexists(note.path))

    async def _append(self, sidecars: Iterator[Sidecar]) -> int:
        added = 0
        while batch := await in_thread(list, islice(sidecars, BATCH)):
            placed = await self._log.append_all([one.new_event() for one in batch], timeout=APPEND_WITHIN)
            added += sum(not one.duplicate for one in placed)
            await in_thread(self._mark, batch)
        return added

    def _mark(self, batch: list[Sidecar]) -> None:
        for sidecar in batch:
            self._sidecars.mark_logged(sidecar.video)

    def _states(self, sidecars: list[Sidecar]) -> list[State]:
        return [self._state(one) for one in sidecars]

    def _state(self, sidecar: Sidecar) -> State:
        path = Path(sidecar.event.path)
        try:
            status = _status(path)
            if status is None:
                held = is_held(temporary_path(path.parent, sidecar.video))
                # Between the two looks a door may have given it its name.
                status = _status(path)
                if status is None and self._sidecars.offloads.has(sidecar.video):
                    return "ready"  # given up on purpose: its manifest is as good as ever
                if status is None:
                    # A folder without `.incoming` was never ours: what we know is mounted there is not.
                    return "unknown" if held or not (path.parent / INCOMING).is_dir() else "lost"
            if is_held(path):
                return "unknown"  # a door is at it right now
            if status.st_ino == sidecar.inode:
                return "ready"
            # Restored from a backup, or another file of that name: its content tells.
            same = status.st_size == sidecar.event.size and digest_of(path) == sidecar.event.sha256
            return "ready" if same else "lost"
        except OSError as error:
            _log.warning("a stored video cannot be looked at now", video=sidecar.video, error=str(error))
            return "unknown"


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
