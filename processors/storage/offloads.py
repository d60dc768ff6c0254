"""Notes of offloaded videos: what the log must hold of a video whose local copy was given up.

A note is durable before the file goes, and it is forgotten when the file is back:

    sidecars/offloaded/<video id>.json

It holds the video's own events, the offload last, with the ids, times and sources that they have in
the log. A log that lost its tail gets them from here: the file cannot tell any more that it was
there, and which copies there are is known nowhere else on this machine. What there is one of for
each chunk or attempt is left out; the chunks are told by the manifest beside them.

While the file still lies at its place a note says nothing: then it was written by someone who died,
or is busy, between the note and the removal.
Everything here blocks: call it in threads.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from processors.storage.files import make_folder, write_durably
from streams.codec import Recorded, decode, encode, timestamp
from streams.events import (
    AttemptFailed,
    ChunkDispatched,
    ChunkUploaded,
    DriveOffsetReached,
    DriveSessionOpened,
    EntryParked,
    ReplicaDamaged,
    ReplicaRepaired,
    ReplicaVerified,
    VideoOffloaded,
)
from streams.log import NewEvent
from streams.paths import OsPath, escape_path, unescape_path

_log = structlog.get_logger(__name__)

FORMAT = 1
FOLDER = "offloaded"
_SUFFIX = ".json"

_MANY = (ChunkUploaded, ChunkDispatched, DriveOffsetReached, DriveSessionOpened, AttemptFailed, EntryParked)
_VERIFICATIONS = (ReplicaVerified, ReplicaDamaged, ReplicaRepaired)


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file it was, so that another one at its path is not taken for it."""

    size: int
    modified_ns: int
    changed_ns: int
    """ctime: no one can set it, so a file that was put back is another one even where its inode number is not."""
    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """That of a file that was looked at."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)

    def same(self, other: FileIdentity) -> bool:
        """Whether the other is this very file, untouched. Devices may have another number after a reboot."""
        return (self.size, self.modified_ns, self.changed_ns, self.inode) == (
            other.size,
            other.modified_ns,
            other.changed_ns,
            other.inode,
        )


@dataclass(frozen=True, slots=True)
class Offload:
    """What is known of a video without a local copy."""

    video: str
    path: OsPath
    """Where the file lay."""
    file: FileIdentity
    events: tuple[NewEvent, ...]
    """What to append, in order; the last one is its VideoOffloaded."""

    @classmethod
    def of(cls, path: OsPath, file: FileIdentity, history: Iterable[Recorded[Any]], offloaded: NewEvent) -> Offload:
        """The note of a video that is about to be offloaded."""
        kept = [_again(one) for one in _worth_keeping(list(history))]
        return cls(offloaded.subject, path, file, (*kept, offloaded))


class Offloads:
    """The notes below the folder of the sidecars. Safe for several processes at once."""

    def __init__(self, sidecars: Path) -> None:
        self.folder = sidecars / FOLDER

    def write(self, note: Offload) -> None:
        """Write a note down; durable on return. Raises OSError, and then there is none or the former one."""
        write_durably(self._path(note.video), _dump(note))

    def has(self, video: str) -> bool:
        """Whether there is a note of this video."""
        return self._path(video).exists()

    def read(self, video: str) -> Offload | None:
        """The note of a video; None where there is none that can be read."""
        try:
            return _load(self._path(video).read_bytes(), video)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("note of an offloaded video cannot be read", path=str(self._path(video)), error=str(error))
            return None

    def all(self) -> Iterator[Offload]:
        """Every note that can be read, one after the other."""
        return (note for video in self.videos() if (note := self.read(video)))

    def videos(self) -> list[str]:
        """Ids of the videos of which there are notes."""
        try:
            names = sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]

    def forget(self, video: str) -> None:
        """The file is at its place, or the video is not offloaded after all. Harmless to repeat."""
        self._path(video).unlink(missing_ok=True)

    def lock(self) -> int | None:
        """Be the only one who gives up files, or takes notes back, until the descriptor is closed.

        None while another process is. Raises OSError.
        """
        make_folder(self.folder)
        fd = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            pass  # locks are not known here: the log's versions and the files' identities must do
        return fd

    def _path(self, video: str) -> Path:
        return self.folder / f"{video}{_SUFFIX}"


def _worth_keeping(history: Sequence[Recorded[Any]]) -> Iterator[Recorded[Any]]:
    """Without what there is very much of: chunks, offsets, attempts, and all verifications but the last."""
    last = max((one.event.verification for one in history if isinstance(one.event, _VERIFICATIONS)), default=0)
    for one in history:
        if isinstance(one.event, _MANY):
            continue
        # Those of the last number, and of the one before: s3 and Drive are numbered one after the other.
        if isinstance(one.event, _VERIFICATIONS) and one.event.verification < last - 1:
            continue
        yield one


def _again(one: Recorded[Any]) -> NewEvent:
    return NewEvent(one.subject, one.event, one.id, one.source, one.cause, one.corr, time=one.time)


def _dump(note: Offload) -> bytes:
    file = note.file
    return orjson.dumps(
        {
            "format": FORMAT,
            "video": note.video,
            "path": escape_path(note.path),
            "size": file.size,
            "modified_ns": file.modified_ns,
            "changed_ns": file.changed_ns,
            "device": file.device,
            "inode": file.inode,
            "events": [_dump_event(one) for one in note.events],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _dump_event(new: NewEvent) -> dict[str, Any]:
    return {
        "id": new.id,
        "type": type(new.event).__name__,
        "sv": type(new.event).sv,
        "time": timestamp(new.time),
        "source": new.source,
        "cause": new.cause,
        "corr": new.corr,
        "data": orjson.Fragment(encode(new.event)),
    }


def _load(data: bytes, video: str) -> Offload:
    stored: Any = orjson.loads(data)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"it is not a note of format {FORMAT}")
    if stored["video"] != video:
        raise ValueError(f"it is that of {stored['video']}")
    events = tuple(_load_event(video, one) for one in stored["events"])
    if not events or not isinstance(events[-1].event, VideoOffloaded):
        raise ValueError("it does not end with a VideoOffloaded")
    file = FileIdentity(*(int(stored[name]) for name in ("size", "modified_ns", "changed_ns", "device", "inode")))
    return Offload(video, unescape_path(stored["path"]), file, events)


def _load_event(video: str, stored: dict[str, Any]) -> NewEvent:
    event = decode(stored["type"], stored["sv"], orjson.dumps(stored["data"]))
    at = datetime.fromisoformat(stored["time"])
    return NewEvent(video, event, stored["id"], stored["source"], stored["cause"], stored["corr"], time=at)
