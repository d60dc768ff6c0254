"""The work folder of a download: ours alone while we hold its lock, kept from one attempt to the next.

    <unfinished>/<number>-<first 8 of its key>/
        .lock           held by whoever works here
        .begun          which attempt works here: one that is found there died
        state.json      what was being put into the media root
        take-<take>/    what the fetcher writes: it goes on from what lies there
        made/           what is to be put into the media root

Everything here but `held` blocks: call it in threads.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from processors.storage.files import make_folder, write_durably
from processors.storage.threads import in_thread

LOCK_EVERY = 0.1
"""Seconds between two looks for a lock that someone else holds."""

_NAME = re.compile(r"(\d+)-[0-9a-f]{8}")
_LOCK, _BEGUN, _STATE, _MADE = ".lock", ".begun", "state.json", "made"


class WorkHeldError(Exception):
    """Another process works on this download."""


@dataclass(slots=True)
class WorkState:
    """What a work folder remembers; durable."""

    video: str = ""
    """The id of the video that was being placed."""
    folder: str = ""
    """Absolute, in the media root."""
    files: dict[str, int] = field(default_factory=dict)
    """Names in it → inodes: what was, or was about to be, put there. The video is the last one."""


class WorkFolder:
    """A work folder whose lock we hold. Made by `held`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock
        self.state = _read(path / _STATE)

    def begin(self, attempt: str) -> bool:
        """An attempt begins; whether the very same one began before, and died. Raises OSError."""
        marker = self.path / _BEGUN
        with suppress(FileNotFoundError):
            if marker.read_text(encoding="utf-8", errors="replace") == attempt:
                marker.unlink()
                return True
        # Needs not be durable: what it tells of is the death of a process, not that of a machine.
        marker.write_text(attempt, encoding="utf-8")
        return False

    def end(self) -> None:
        """The attempt ends, well or not, and its process lives. Takes no time."""
        with suppress(OSError):
            (self.path / _BEGUN).unlink()

    def fetching(self, take: int) -> Path:
        """Where the fetcher writes; what other takes left there is gone."""
        wanted = self.path / f"take-{take}"
        for other in self.path.glob("take-*"):
            if other != wanted:
                shutil.rmtree(other, ignore_errors=True)
        make_folder(wanted)
        return wanted

    def forget_fetched(self, take: int) -> None:
        """Have everything fetched anew."""
        shutil.rmtree(self.path / f"take-{take}", ignore_errors=True)
        shutil.rmtree(self.path / _MADE, ignore_errors=True)

    def making(self) -> Path:
        """An empty folder for what is to be put into the media root."""
        made = self.path / _MADE
        shutil.rmtree(made, ignore_errors=True)
        make_folder(made)
        return made

    def remember(self) -> None:
        """Write `state` down, durably. Raises OSError."""
        write_durably(self.path / _STATE, orjson.dumps(asdict(self.state)))

    def discard(self) -> None:
        """Remove the whole folder: nothing of it is needed any more."""
        for entry in list(os.scandir(self.path)):
            if entry.name == _LOCK:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)
        # The lock goes last: whoever waits for it sees that its folder is gone, and makes another.
        shutil.rmtree(self.path, ignore_errors=True)

    def release(self) -> None:
        """Let others work here."""
        os.close(self._lock)


def folder_of(unfinished: Path, number: int, key: str) -> Path:
    """Where a download's work folder lies."""
    safe = re.sub(r"[^0-9a-f]", "", key.lower())[:8].ljust(8, "0")
    return unfinished / f"{number}-{safe}"


@asynccontextmanager
async def held(path: Path, *, patience: float) -> AsyncIterator[WorkFolder]:
    """The work folder, made where it is missing, ours while the body runs.

    Raises WorkHeldError where somebody else still has it after `patience` seconds, OSError.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while (work := await _claimed(path)) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise WorkHeldError(str(path))
        await asyncio.sleep(LOCK_EVERY)
    try:
        yield work
    finally:
        work.release()


def there(unfinished: Path) -> Iterator[tuple[int, Path]]:
    """Number and path of each work folder that lies there."""
    with suppress(FileNotFoundError):
        for entry in os.scandir(unfinished):
            if (found := _NAME.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False):
                yield int(found[1]), Path(entry.path)


async def _claimed(path: Path) -> WorkFolder | None:
    """Released where whoever wanted it is cancelled meanwhile."""
    job = in_thread(_claim, path)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        with suppress(OSError):
            if (work := await job) is not None:
                work.release()
        raise


def _claim(path: Path) -> WorkFolder | None:
    make_folder(path)
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None  # removed just now by whoever was done with it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path / _LOCK, follow_symlinks=False).st_ino != os.fstat(lock).st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        return None
    except OSError:
        pass  # locks are not known here: one worker alone is safe all the same
    try:
        return WorkFolder(path, lock)
    except BaseException:
        os.close(lock)
        raise


def _read(path: Path) -> WorkState:
    try:
        stored: Any = orjson.loads(path.read_bytes())
        return WorkState(
            str(stored["video"]),
            str(stored["folder"]),
            {str(name): int(inode) for name, inode in stored["files"].items()},
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return WorkState()
