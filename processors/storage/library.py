"""The media root: how a download gets its place there, whole or not at all.

The steps of `Library.place`, and what a process that dies right after one leaves behind:

1. made, fsynced, read back; in a folder that no media server sees  → the work folder: gone on from
2. what will be put where is written down in the work folder       → nothing is there yet
3. `.nfo`, poster and subtitles appear                             → taken away again by the repeat, which knows them
4. the sidecar manifest is durable                                 → a manifest without a file: written anew
5. the video appears; the folder is durable                        → `kept` finds it: nothing is fetched twice
6. the event is appended from the manifest                         → appended by the reconciler

Nothing is ever overwritten but what an earlier take of the same download had put there. Everything here blocks: call
it in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processors.storage import files
from processors.storage.library_folders import Folder, LeadsOutError, below, is_file, opened, prune
from processors.storage.library_places import beside, free_name, kept_quiet, poster_names, put, twin_of
from processors.storage.library_work import WorkFolder, WorkState
from processors.storage.sidecars import Sidecar, Sidecars
from streams.crashpoints import reach
from streams.events import VideoStored
from streams.paths import OsPath
from streams.settings import Settings

TRIES = 5
"""How often a name is chosen anew because someone else took it, or removed the folder, just then."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be put into the media root. All of it lies in the work folder."""

    folders: tuple[str, ...]
    """Below the media root."""
    name: str
    """Without extension, with room behind it (`library_names.ROOM`)."""
    own_folder: bool
    """The last folder is meant for this video alone."""
    video: Path
    extension: str
    """`.mp4`."""
    sides: tuple[tuple[str, Path], ...]
    """What its name ends in (`.nfo`, `.en.vtt`), and the file."""
    poster: Path | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A download that lies in the media root."""

    sidecar: Sidecar
    files: tuple[OsPath, ...]
    """What lies beside the video. Absolute."""


@dataclass(frozen=True, slots=True)
class Former:
    """What an earlier take of the same download had put there, and may be replaced."""

    paths: frozenset[str] = field(default_factory=frozenset)
    """Absolute."""


Event = Callable[[Path, os.stat_result, str], VideoStored]
"""Makes the first event of a video of its path, what the file system says of the file, and its sha256 as hex digits."""


class Library:
    """Puts videos into the media root, finds them there, and takes them away."""

    def __init__(self, settings: Settings) -> None:
        self.root = Path(os.path.normpath(settings.downloads))
        self.sidecars = Sidecars(settings.sidecars)

    # ------------------------------------------------------------ putting there

    def place(self, video: str, ready: Ready, event: Event, work: WorkFolder, former: Former) -> Kept:
        """Put it there. Durable on return. Raises LeadsOutError, OSError: then nothing of it is there."""
        self.undo(work)
        status, sha256 = _settled(ready.video)
        if ready.poster is not None:
            shutil.copyfile(ready.poster, twin_of(ready.poster))
        for one in [path for _, path in ready.sides] + ([ready.poster, twin_of(ready.poster)] if ready.poster else []):
            _sync(one)
        reach("download.sealed")
        for attempt in range(TRIES):
            try:
                with opened(self.root, ready.folders, make=True) as folder:
                    return self._placed(video, ready, lambda path: event(path, status, sha256), work, former, folder)
            except (FileExistsError, FileNotFoundError):
                # Someone took the name, or removed the folder, between our look and now.
                if attempt + 1 == TRIES or not ready.video.exists():
                    raise
        raise AssertionError

    def _placed(
        self,
        video: str,
        ready: Ready,
        event: Callable[[Path], VideoStored],
        work: WorkFolder,
        former: Former,
        folder: Folder,
    ) -> Kept:
        ours = {os.path.basename(path) for path in former.paths if os.path.dirname(path) == str(folder.path)}
        stem = free_name(folder, ready.name, ours)
        sides = [(f"{stem}{ending}", source) for ending, source in ready.sides]
        if ready.poster is not None:
            sides += zip(
                poster_names(folder, stem, ours, own=ready.own_folder),
                (ready.poster, twin_of(ready.poster)),
                strict=True,
            )
        final = f"{stem}{ready.extension}"
        sources = [*sides, (final, ready.video)]
        inodes = {name: os.stat(source).st_ino for name, source in sources}
        work.state.video, work.state.folder, work.state.files = video, str(folder.path), inodes
        work.remember()
        reach("download.noted")
        try:
            for name, source in sides:
                put(folder, source, name, ours)
                reach("download.side_placed")
            folder.sync()
            path = folder.path / final
            sidecar = Sidecar.of(video, event(path), source="download", inode=inodes[final])
            # The reconciler leaves a file alone that someone holds: until it is replaced the manifest is not of it.
            with kept_quiet(folder, final):
                self.sidecars.write(sidecar)
                reach("download.announced")
                put(folder, ready.video, final, ours)
            reach("download.linked")
            folder.sync()
        except BaseException:
            self.undo(work)
            raise
        reach("download.placed")
        return Kept(sidecar, tuple(OsPath(str(folder.path / name)) for name, _ in sides))

    def undo(self, work: WorkFolder) -> None:
        """Take away what an attempt had put there that did not come to its end. Raises OSError."""
        state = work.state
        if not state.video:
            return
        with contextlib.suppress(FileNotFoundError, LeadsOutError):
            folders, name = below(self.root, os.path.join(state.folder, "-"))
            with opened(self.root, folders) as folder:
                for name, inode in reversed(state.files.items()):
                    status = folder.status(name)
                    if status is not None and status.st_ino == inode and is_file(status):
                        folder.remove(name)
                folder.sync()
            prune(self.root, folders)
        self.sidecars.drop(state.video)
        work.state = WorkState()
        work.remember()

    # ------------------------------------------------------------ finding there

    def kept(self, video: str, state: WorkState | None = None) -> Kept | None:
        """A video that lies there whole, or was given up there on purpose; None where there is none. Raises OSError."""
        sidecar = self.sidecars.get(video)
        if sidecar is None:
            return None
        offloaded = self.sidecars.offloads.has(video)
        try:
            folders, name = below(self.root, sidecar.event.path)
            with opened(self.root, folders) as folder:
                status = folder.status(name)
                if not offloaded and not _is_of(status, sidecar):
                    return None
                if state is not None and state.video == video:
                    others = [one for one in state.files if one != name and folder.status(one) is not None]
                else:
                    others = beside(folder, name)
                return Kept(sidecar, tuple(OsPath(str(folder.path / one)) for one in others))
        except (LeadsOutError, FileNotFoundError):
            return Kept(sidecar, ()) if offloaded else None

    def is_there(self, video: str, path: OsPath) -> bool:
        """Whether a stored video's file lies at its path still, or was given up on purpose."""
        if self.sidecars.offloads.has(video):
            return True
        try:
            folders, name = below(self.root, path)
            with opened(self.root, folders) as folder:
                return is_file(folder.status(name))
        except (LeadsOutError, OSError):
            return False

    # ------------------------------------------------------------ taking away

    def remove(self, video: str, paths: Sequence[OsPath], keep: frozenset[str] = frozenset()) -> list[OsPath]:
        """Take away a video (the first of `paths`) and what lies beside it, and folders that are empty then.

        Another file that took the video's place stays, and so does what is in `keep`. Answers with what was there.
        Raises OSError.
        """
        sidecar = self.sidecars.get(video)
        removed: list[OsPath] = []
        for number, path in enumerate(paths):
            if path in keep:
                continue
            try:
                folders, name = below(self.root, path)
                with opened(self.root, folders) as folder:
                    status = folder.status(name)
                    if not is_file(status) or (number == 0 and sidecar is not None and not _is_of(status, sidecar)):
                        continue
                    folder.remove(name)
                    folder.sync()
            except (FileNotFoundError, LeadsOutError):
                continue
            removed.append(path)
            reach("download.removed")
            prune(self.root, folders)
        return removed


def _is_of(status: os.stat_result | None, sidecar: Sidecar) -> bool:
    """Whether it is the file of a manifest: the very one, or one of its size that took its place (a backup's)."""
    return status is not None and is_file(status) and status.st_size == sidecar.event.size


def _settled(path: Path) -> tuple[os.stat_result, str]:
    """Make a file durable; what it is, and the sha256 of what the disk gives back. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        status, digest = os.fstat(fd), hashlib.sha256()
        files.settle(fd, 0, status.st_size, digest)
        return status, digest.hexdigest()
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
