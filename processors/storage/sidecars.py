"""Sidecar manifests: for each stored video a small file that can bring its first event back.

A manifest is on disk before anyone is told that the video is. It lies in `new/` until the log has
the event, then in a folder named by the first two digits of the video's id:

    sidecars/new/<video id>.json       the log does not have it yet
    sidecars/3f/<video id>.json        the log has it
    sidecars/lost/<video id>.json      its video was not there when its event was to be appended
    sidecars/broken/<file>             could not be read; set aside and said
    sidecars/offloaded/<video id>.json  its local copy was given up on purpose (see `offloads`)

It holds the event with its id, so appending it again, after Redis lost its tail, doubles nothing.
Everything here blocks: call it in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from processors.storage.files import fsync_folder, make_folder, write_durably
from processors.storage.offloads import Offloads
from streams.codec import decode, encode
from streams.events import VideoStored
from streams.log import NewEvent, new_event

_log = structlog.get_logger(__name__)

FORMAT = 1
ABANDONED = 3600.0
"""Seconds after which a manifest that is still being written is taken for a dead process's."""

NEW, LOST, BROKEN = "new", "lost", "broken"
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is known of a stored video: enough to append its VideoStored again."""

    video: str
    """Its id, the subject of the event."""
    id: str
    """The event's id."""
    source: str
    """Who appends it: a door."""
    event: VideoStored
    inode: int
    """The stored file's own, so that another file of that name is not taken for it."""

    @classmethod
    def of(cls, video: str, event: VideoStored, *, source: str, inode: int) -> Sidecar:
        """The manifest of a video that is about to be stored."""
        return cls(video, new_event(video, event, source=source).id, source, event, inode)

    def new_event(self) -> NewEvent:
        """The event as it is appended, with the id it always had."""
        return NewEvent(self.video, self.event, self.id, self.source)


class Sidecars:
    """The manifests below one folder. Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.new = folder / NEW
        self._lost, self._broken = folder / LOST, folder / BROKEN
        self.offloads = Offloads(folder)
        """Notes of the videos whose local copies were given up on purpose."""

    def write(self, sidecar: Sidecar) -> None:
        """Put a manifest into `new/`; durable on return. Raises OSError, and then it is not there."""
        write_durably(self.new / f"{sidecar.video}{_SUFFIX}", _dump(sidecar))

    def drop(self, video: str) -> None:
        """Forget a manifest whose video did not get stored after all."""
        (self.new / f"{video}{_SUFFIX}").unlink(missing_ok=True)

    def forget(self, video: str) -> None:
        """Forget a video whose file was removed on purpose, wherever its manifest lies. Harmless to repeat."""
        for path in (self.new / f"{video}{_SUFFIX}", self._home(video)):
            path.unlink(missing_ok=True)

    def mark_logged(self, video: str) -> None:
        """The log has this video's event. Harmless to repeat."""
        self._move(self.new / f"{video}{_SUFFIX}", self._home(video))

    def mark_lost(self, video: str) -> None:
        """This video's file is not there: set the manifest aside."""
        self._move(self.new / f"{video}{_SUFFIX}", self._lost / f"{video}{_SUFFIX}")

    def restore(self, video: str) -> None:
        """The file of a lost manifest is back: it waits for the log again."""
        self._move(self._lost / f"{video}{_SUFFIX}", self.new / f"{video}{_SUFFIX}")

    def get(self, video: str) -> Sidecar | None:
        """The manifest of a video, wherever it lies but among the lost; None where there is none (a watched file)."""
        return self._read(self.new / f"{video}{_SUFFIX}")

    def returned(self, video: str) -> None:
        """An offloaded video's file is back at its place, and the log has its VideoRestored.

        The manifest learns which file it is now, and the note of the offload is forgotten. Harmless
        to repeat, and for a watched file, which has no manifest. Raises OSError.
        """
        home = self._home(video)
        sidecar = self._read(home) if home.exists() else None
        if sidecar is not None:
            inode = os.stat(sidecar.event.path, follow_symlinks=False).st_ino
            if inode != sidecar.inode:
                write_durably(home, _dump(replace(sidecar, inode=inode)))
        self.offloads.forget(video)

    def pending(self) -> list[Sidecar]:
        """What the log may not have yet, oldest first."""
        found = (self._read(path) for path in _manifests(self.new))
        return sorted((one for one in found if one), key=lambda one: (one.event.received_at, one.video))

    def any_pending(self) -> bool:
        """Whether `new/` holds anything: one look at a folder, for a caller who asks all the time."""
        return next(_manifests(self.new), None) is not None

    def lost(self) -> Iterator[Sidecar]:
        """Manifests whose files were not there."""
        return self._readable(_manifests(self._lost))

    def all(self) -> Iterator[Sidecar]:
        """Every manifest of a stored video, one after the other, logged or not."""
        return self._readable(self._paths())

    def beyond(self, known: set[str]) -> Iterator[Sidecar]:
        """Every manifest of a video that is not among `known` ids."""
        return self._readable(path for path in self._paths() if path.stem not in known)

    def broken(self) -> list[str]:
        """Ids of the videos whose manifests were set aside because they could not be read."""
        return [path.stem for path in _manifests(self._broken)]

    def replaced(self, video: str) -> None:
        """A broken manifest needs no more looking after; its bytes stay for whoever wants to see them."""
        broken = self._broken / f"{video}{_SUFFIX}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(broken, broken.with_suffix(".replaced"))

    def sweep(self, now: float) -> None:
        """Remove what a process that was killed while writing left in `new/` and `offloaded/`.

        `now`: epoch seconds.
        """
        for path in (*_files(self.new), *_files(self.offloads.folder)):
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > ABANDONED:
                        path.unlink()

    def _paths(self) -> Iterator[Path]:
        # `new/` first: a manifest that is moved meanwhile is then met again at home, never missed.
        yield from _manifests(self.new)
        for number in range(256):
            yield from _manifests(self.folder / f"{number:02x}")

    def _readable(self, paths: Iterator[Path]) -> Iterator[Sidecar]:
        return (one for path in paths if (one := self._read(path)))

    def _home(self, video: str) -> Path:
        return self.folder / video[:2] / f"{video}{_SUFFIX}"

    def _move(self, source: Path, target: Path) -> None:
        make_folder(target.parent)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return
        fsync_folder(target.parent)

    def _read(self, path: Path) -> Sidecar | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # Logged between the look into the folder and now.
            try:
                path = self._home(path.stem)
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        except OSError as error:
            _log.warning("sidecar cannot be read now", path=str(path), error=str(error))
            return None
        try:
            return _load(data, path.stem)
        except (ValueError, KeyError, TypeError) as error:
            target = self._broken / path.name
            with contextlib.suppress(OSError):
                self._move(path, target)
            _log.error("sidecar is broken and was set aside", path=str(target), error=str(error))
            return None


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (folder / name for name in names)


def _manifests(folder: Path) -> Iterator[Path]:
    return (path for path in _files(folder) if path.suffix == _SUFFIX and not path.name.startswith("."))


def _dump(sidecar: Sidecar) -> bytes:
    return orjson.dumps(
        {
            "format": FORMAT,
            "video": sidecar.video,
            "id": sidecar.id,
            "source": sidecar.source,
            "type": type(sidecar.event).__name__,
            "sv": type(sidecar.event).sv,
            "data": orjson.Fragment(encode(sidecar.event)),
            "inode": sidecar.inode,
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _load(data: bytes, video: str) -> Sidecar:
    stored: Any = orjson.loads(data)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"it is not a manifest of format {FORMAT}")
    if stored["video"] != video:
        raise ValueError(f"it is that of {stored['video']}")
    event = decode(stored["type"], stored["sv"], orjson.dumps(stored["data"]))
    if not isinstance(event, VideoStored):
        raise ValueError(f"it holds a {stored['type']}")
    return Sidecar(video, str(stored["id"]), str(stored["source"]), event, int(stored["inode"]))
