"""Puts a restored file back where it lay: the file first, then what the log and the sidecar say of it.

Whoever dies in between, or finds the log down, does it again: the file is found whole, and only the
rest is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from processors.copies import Copies, fold
from processors.restoring import SILENT, Restored, Telling, Wanted, rebuild
from processors.storage import partfile
from processors.storage.disk import Marks
from processors.storage.files import make_folder
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
    if facts.door == "upload" and os.path.realpath(home.parent) != os.path.realpath(settings.uploads):
        raise RejectedError(
            409, f"It lay in {shown}, and these settings have their uploads in {settings.uploads}. Say where: -o FILE."
        )
    return home


async def put_back(
    log: Log,
    settings: Settings,
    video: str,
    wanted: Wanted,
    replica: Replica,
    *,
    force: bool = False,
    telling: Telling = SILENT,
) -> Returned:
    """Restore a video's file to its place; the log learns that it is back where it was offloaded.

    Raises what `home_of` and `rebuild` raise, LogUnavailableError before anything is done.
    """
    history = await log.history(video)
    facts = fold(history)
    home = home_of(facts, settings)
    sidecars = Sidecars(settings.sidecars)
    with partfile.disk_errors(home):
        await in_thread(make_folder, home.parent)
    restored = await rebuild(
        wanted,
        home,
        force=force,
        telling=telling,
        appearing=_Appearing(sidecars, video, history),
        marks=Marks.of(settings),
    )
    try:
        await _tell(log, video, restored, replica)
    except SpoolhouseError as error:
        return Returned(restored, error)
    reach("restore.logged")
    await in_thread(sidecars.returned, video)
    return Returned(restored, None)


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
    video: str
    history: Sequence[Recorded[Any]]

    def __call__(self, path: Path, inode: int) -> None:
        stored = [one for one in self.history if isinstance(one.event, VideoStored)]
        if stored:
            _set_time(partfile.part_path(path), stored[-1].event.modified_at)
        if self.sidecars.get(self.video) is None:
            self.sidecars.restore(self.video)
        if self.sidecars.get(self.video) is None and stored:
            first = stored[-1]
            self.sidecars.write(Sidecar(self.video, first.id, first.source, first.event, inode))
        self.sidecars.mark_logged(self.video)


def _set_time(path: Path, modified: datetime) -> None:
    nanoseconds = (modified - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000
    with contextlib.suppress(FileNotFoundError):
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
