"""Puts a restored file back where it lay: the file first, then what the log and the sidecar say of it.

Whoever dies in between, or finds the log down, does it again: the file is found whole, and only the
rest is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processors.copies import Copies, fold
from processors.restoring import SILENT, Restored, Telling, Wanted, rebuild
from processors.storage import partfile
from processors.storage.disk import Marks
from processors.storage.files import make_folder
from processors.storage.offloads import Offloads
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import NotFoundError, RejectedError, SpoolhouseError
from streams.events import Replica, VideoRestored, VideoStored
from streams.log import Log, new_event
from streams.paths import OsPath, escape_path
from streams.settings import Settings

SOURCE = "restore"

TRIES = 3
"""How often a file is restored that is taken away just then."""

LOCK_WITHIN = 300.0
"""Seconds to wait for a process that gives up files: it may have a large one to hash."""

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Returned:
    """A file that is back at its place."""

    restored: Restored
    unlogged: SpoolhouseError | None
    """Why the log does not know of it yet; None: it does."""


def home_of(facts: Copies, settings: Settings) -> Path:
    """Where a video's local file belongs.

    Raises NotFoundError where nothing is known of a file, RejectedError (409) where it is not for
    us to write there.
    """
    if facts.path is None or facts.door is None:
        raise NotFoundError(f"Nothing is known of a file of {facts.video or 'this video'}.")
    shown = escape_path(facts.path)
    if facts.door == "watch":
        raise RejectedError(
            409, f"{shown} is a watched original: nothing is ever written into a watched folder. Say where: -o FILE."
        )
    home = Path(facts.path)
    ours = settings.home_of(facts.door)
    if ours is not None and not _lies_in(home.parent, ours, deep=facts.door == "download"):
        raise RejectedError(
            409, f"It lay in {shown}, and these settings have such files in {ours}. Say where: -o FILE."
        )
    return home


def _lies_in(folder: Path, ours: Path, *, deep: bool) -> bool:
    """Whether a folder is ours, or lies in it (`deep`), links followed."""
    there, wanted = os.path.realpath(folder), os.path.realpath(ours)
    return there == wanted or (deep and os.path.commonpath((there, wanted)) == wanted)


async def put_back(
    log: Log,
    settings: Settings,
    video: str,
    wanted: Wanted,
    replica: Replica,
    *,
    asked_for: Path | None = None,
    force: bool = False,
    telling: Telling = SILENT,
) -> Returned:
    """Restore a video's file to its place; the log learns that it is back where it was offloaded.

    `asked_for`: a person named that very place (of a watched file that was offloaded, say). Raises what `home_of` and `rebuild` raise, LogUnavailableError before anything is done.
    """
    history = await log.history(video)
    facts = fold(history)
    home = asked_for or home_of(facts, settings)
    sidecars = Sidecars(settings.sidecars)
    with partfile.disk_errors(home):
        await in_thread(make_folder, home.parent)
    appearing = _Appearing(sidecars, facts, history)
    for _ in range(TRIES):
        restored = await rebuild(
            wanted, home, force=force, telling=telling, appearing=appearing, marks=Marks.of(settings)
        )
        async with _alone(sidecars.offloads):
            # One that lay there whole may have been on its way out: the log had it offloaded, and it goes a moment later.
            if not await in_thread(os.path.lexists, home):
                continue
            try:
                await _tell(log, video, restored, replica)
            except SpoolhouseError as error:
                return Returned(restored, error)
            reach("restore.logged")
            await in_thread(sidecars.returned, video)
            return Returned(restored, None)
    raise RejectedError(409, f"{escape_path(str(home))} is taken away as soon as it is there: who does that?")


@asynccontextmanager
async def _alone(offloads: Offloads) -> AsyncIterator[None]:
    """No other process gives up files during the body. Raises RejectedError (409)."""
    deadline = time.monotonic() + LOCK_WITHIN
    while (fd := await in_thread(offloads.lock)) is None:
        if time.monotonic() > deadline:
            raise RejectedError(
                409, "The file is there, and another process gives up files just now: run the same command again."
            )
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        os.close(fd)


async def _tell(log: Log, video: str, restored: Restored, replica: Replica) -> None:
    """Append VideoRestored where the log has it offloaded. What happened meanwhile decides."""
    facts = fold(await log.history(video))
    if facts.state != "offloaded":
        return
    event = VideoRestored(
        revision=facts.revision,
        path=OsPath(str(restored.path)),
        size=restored.size,
        sha256=restored.sha256,
        replica=replica,
        offload=facts.offloads,
    )
    await log.append(new_event(video, event, source=SOURCE))


@dataclass(frozen=True, slots=True)
class _Appearing:
    """Sees to it that the file is explained before it is seen: else it would be adopted as another video."""

    sidecars: Sidecars
    facts: Copies
    history: Sequence[Recorded[Any]]

    def __call__(self, path: Path, inode: int) -> None:
        part, video = partfile.part_path(path), self.facts.video
        stored = next((one for one in reversed(self.history) if isinstance(one.event, VideoStored)), None)
        if stored is None:
            # By its times a watcher knows a file that it saw before.
            _set_time(part, self.facts.modified_ns or time.time_ns())
            return
        _set_time(part, (stored.event.modified_at - EPOCH) // timedelta(microseconds=1) * 1000)
        if self.sidecars.get(video) is None:
            self.sidecars.restore(video)
        if self.sidecars.get(video) is None:
            self.sidecars.write(Sidecar(video, stored.id, stored.source, stored.event, inode))
        self.sidecars.mark_logged(video)


def _set_time(path: Path, nanoseconds: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
