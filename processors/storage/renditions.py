"""Where renditions lie: made under a temporary name, kept under one that tells what they are, never half there.

    processed_videos/<video>_r<revision>_<preset>-<digest>.mp4       a rendition
    processed_videos/<video>_r<revision>_<preset>_720p-<digest>.mp4  a rung of a ladder, its playlist beside it (.m3u8)
    processed_videos/.incoming/<rendition>.tmp                       one that is being made
    processed_videos/.lineage/<rendition>.json                       what it was made of, with and by

The steps of `Making.keep`, and what a process that dies right after one leaves behind:

1. made, fsynced, read back               → a `.tmp` that nobody holds: removed, and made anew
2. the lineage is durable                 → one that names no file: counts for nothing, is replaced
3. the sidecar manifest is durable        → a manifest without a file: set aside by the reconciler
4. the file appears under its name        → found by its lineage: nothing is made twice
5. the event of its source is appended    → appended again: a duplicate, harmless

The rendition's own first event is appended from its manifest by the reconciler, as that of an upload is: it comes
back with it, should the log lose its tail. Everything here but `making` blocks: call it in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
import structlog

from processors.copies import Copies
from processors.storage import files
from processors.storage.names import safe_name
from processors.storage.receiving import INCOMING, temporary_path
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.threads import in_thread
from streams.codec import decode, encode
from streams.events import RenditionStored, VideoStored
from streams.paths import OsPath
from streams.settings import Settings

_log = structlog.get_logger(__name__)

LINEAGE = ".lineage"
PLAYLIST = ".m3u8"
NAMES = 100
"""How many files of one name there may be: each was made because the one before had gone."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What lies beside a rendition."""

    video: str
    """The id of the video that it was made of."""
    content: str
    """Of which content of that video; see `content_of`."""
    event: RenditionStored


class BusyError(Exception):
    """Another process is making this very rendition."""


class Renditions:
    """The folder of renditions."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.processed
        self.sidecars = Sidecars(settings.sidecars)

    def is_known(self, rendition: str) -> bool:
        """Whether this id was taken before, whatever became of it."""
        return os.path.lexists(self.lineage_path(rendition))

    def there(self, rendition: str, content: str | None = None) -> RenditionStored | None:
        """What is known of a rendition whose file lies there, or was given up on purpose; else None.

        `content`: and which was made of this content (see `content_of`).
        """
        lineage = self._lineage(rendition)
        if lineage is None or content not in {None, lineage.content}:
            return None
        stored = lineage.event
        if self.sidecars.offloads.has(rendition):
            return stored
        try:
            found = os.stat(stored.path, follow_symlinks=False)
        except OSError:
            return None
        whole = stat.S_ISREG(found.st_mode) and found.st_size == stored.size
        return stored if whole and (stored.playlist is None or os.path.isfile(stored.playlist)) else None

    @asynccontextmanager
    async def making(self, rendition: str) -> AsyncIterator[Making]:
        """A new empty file for a rendition, gone when the block ends unless it was kept.

        Raises BusyError, and OSError where the folder cannot be written.
        """
        path = temporary_path(self.folder, rendition)
        beginning = in_thread(_begin, path)
        try:
            fd = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(partial(_give_up, path))
            raise
        try:
            yield Making(self, rendition, path, fd)
        finally:
            await in_thread(_end, path, fd)

    def sweep(self, now: float) -> list[Path]:
        """Remove what dead processes left half made; say which. `now`: epoch seconds."""
        removed = files.sweep(self.folder / INCOMING, now=now)
        for path in (self.folder / INCOMING).glob(f"*{files.TEMPORARY}{PLAYLIST}"):
            if not os.path.lexists(path.with_suffix("")):
                path.unlink(missing_ok=True)
        return removed

    def all(self) -> Iterator[Lineage]:
        """What each rendition that is there was made of."""
        for path in sorted((self.folder / LINEAGE).glob("*.json")):
            found = self._lineage(path.stem)
            if found is not None and self.there(path.stem) is not None:
                yield found

    def _lineage(self, rendition: str) -> Lineage | None:
        path = self.lineage_path(rendition)
        try:
            stored = orjson.loads(path.read_bytes())
            event = decode("RenditionStored", stored["sv"], orjson.dumps(stored["data"]))
            if not isinstance(event, RenditionStored) or event.rendition != rendition:
                raise ValueError("it is that of something else")
            return Lineage(str(stored["video"]), str(stored["content"]), event)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the lineage of a rendition cannot be read", path=str(path), error=str(error))
            return None

    def lineage_path(self, rendition: str) -> Path:
        """Where what a rendition was made of stands."""
        return self.folder / LINEAGE / f"{rendition}.json"


class Making:
    """A rendition under way, made by `Renditions.making`."""

    def __init__(self, renditions: Renditions, rendition: str, path: Path, fd: int) -> None:
        self._renditions, self._rendition, self._fd = renditions, rendition, fd
        self.path = path
        """Where it is to be written: into this very file, which stays locked. A playlist: beside it, with `.m3u8` behind."""

    def keep(self, name: str, extension: str, event: RenditionStored, *, source: Copies) -> RenditionStored:
        """Give the finished file its name; the event with path, size and sha256 as they are then. Durable on return.

        `event` is the rendition's without these three; `source` is what is known of the video that it was made of.
        Raises OSError: then nothing is kept.
        """
        status, lies = os.fstat(self._fd), os.stat(self.path, follow_symlinks=False)
        if (status.st_dev, status.st_ino) != (lies.st_dev, lies.st_ino):
            raise OSError(errno.ESTALE, "another file took the place of the one that was being made")
        digest = hashlib.sha256()
        files.settle(self._fd, 0, status.st_size, digest)
        playlist = Path(f"{self.path}{PLAYLIST}")
        listed = playlist.read_bytes() if event.kind == "hls" else None
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        kept: list[RenditionStored] = []

        def announce(path: Path) -> None:
            if listed is not None:
                files.write_durably(path.with_suffix(PLAYLIST), listed)
            stored = replace(
                event,
                path=OsPath(str(path)),
                playlist=None if listed is None else OsPath(str(path.with_suffix(PLAYLIST))),
                size=status.st_size,
                sha256=digest.hexdigest(),
            )
            first = as_video(stored, modified, source)
            files.write_durably(
                self._renditions.lineage_path(self._rendition),
                orjson.dumps(
                    {
                        "video": source.video,
                        "content": content_of(source),
                        "sv": RenditionStored.sv,
                        "data": orjson.Fragment(encode(stored)),
                    },
                    option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
                ),
            )
            self._renditions.sidecars.write(Sidecar.of(self._rendition, first, source="rendition", inode=status.st_ino))
            kept.append(stored)

        names = [f"{name}{extension}", *(f"{name}_{number}{extension}" for number in range(2, NAMES))]
        files.place(
            self.path, self._renditions.folder, names, announce, lambda: self._renditions.sidecars.drop(self._rendition)
        )
        return kept[-1]


def content_of(source: Copies) -> str:
    """What tells the content of a video from any that it had before, or will have: of a watched file without reading it."""
    if source.door == "watch":
        return f"{source.size} bytes, modified {source.modified_ns}"
    return f"sha256 {source.sha256}"


def as_video(stored: RenditionStored, modified: datetime, source: Copies) -> VideoStored:
    """The first event of a rendition as a video of its own, named after the video that it was made of."""
    name = os.path.basename(stored.path)
    stem, extension = os.path.splitext(source.filename)[0], os.path.splitext(name)[1]
    rung = f" {stored.height}p" if stored.kind == "hls" else ""
    filename = safe_name(f"{stem} ({stored.preset}{rung}){extension}")
    return VideoStored(
        door="rendition",
        path=stored.path,
        stored_name=name,
        filename=filename,
        original_name=filename,
        label=stored.preset,
        mime=stored.mime,
        size=stored.size,
        sha256=stored.sha256,
        received_at=modified,
        modified_at=modified,
        revision=1,
        rendition_of=source.video,
    )


def _begin(path: Path) -> int:
    if os.path.lexists(path):
        if files.is_held(path):
            raise BusyError(str(path))
        path.unlink(missing_ok=True)
    try:
        return files.create_temporary(path)
    except FileExistsError:
        raise BusyError(str(path)) from None


def _give_up(path: Path, beginning: asyncio.Future[int]) -> None:
    """Whoever asked for the file went away meanwhile."""
    if not beginning.cancelled() and beginning.exception() is None:
        _end(path, beginning.result())


def _end(path: Path, fd: int) -> None:
    # The lock goes last: whoever looks meanwhile must not take the file for a dead process's.
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(f"{path}{PLAYLIST}").unlink(missing_ok=True)
    os.close(fd)
