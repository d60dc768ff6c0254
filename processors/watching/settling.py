"""When is a file complete? When no one has it open for writing.

The kernel tells: a read lease (`fcntl`, F_SETLEASE) is refused while any process has the file open
for writing, and granted from the moment it closes. Leases are given to the file's owner only (or
with CAP_LEASE), and on local file systems only; elsewhere a file counts as complete once its size
and modification time stood still for a while.

The file is opened read-only and closed again. No byte is read, and nothing about it changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from processors.watching.comparing import Found
from processors.watching.scanning import hidden, resolve_inside

QUIET_NS = 30_000_000
"""A copier that closes a file and sets its times afterwards does so within this time."""

FASTEST = 0.02
SLOWEST = 1.0
"""Seconds between two looks at a file that someone writes."""

SKEW = 60.0
"""Seconds by which a file server's clock may differ from ours."""


class State(Enum):
    """What a look at a path told."""

    FREE = "no one writes to it"
    WRITTEN = "someone has it open for writing"
    UNCLEAR = "leases are refused here"
    GONE = "nothing is there"
    FOLDER = "it is a folder"
    OTHER = "neither file nor folder, or not ours to follow"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one path."""

    state: State
    found: Found | None = None
    changed_ns: int = 0
    """ctime: the last change of content or attributes, nanoseconds since the epoch."""


def ignore_lease_breaks() -> bool:
    """Make leases safe: whoever opens a file while we hold its lease sends us SIGIO, which kills.

    False where that cannot be arranged (not the main thread): then leases must not be used.
    """
    if signal.getsignal(signal.SIGIO) is signal.SIG_IGN:
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    return True


def look_at(root: str, relative: str, *, leases: bool = True, checked: bool = False) -> Look:
    """Look at a path below a root. Never blocks on a FIFO, never follows a link out of the root.

    `checked`: a scan came by here already and followed no link.
    """
    path = os.path.join(root, relative)
    try:
        before = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Look(State.GONE)
    except OSError:
        return Look(State.OTHER)
    if stat.S_ISLNK(before.st_mode) or not checked:
        real = resolve_inside(root, relative)
        if real is None or hidden(relative):
            return Look(State.OTHER)
        path = real
    try:
        if stat.S_ISLNK(before.st_mode):
            before = os.stat(path)
        if stat.S_ISDIR(before.st_mode):
            return Look(State.FOLDER)
        if not stat.S_ISREG(before.st_mode):
            return Look(State.OTHER)
        return _ask(path, leases)
    except (FileNotFoundError, NotADirectoryError):
        return Look(State.GONE)
    except PermissionError:
        return _seen(State.UNCLEAR, before)  # not ours to open: stillness it is
    except OSError:
        return Look(State.OTHER)


def _ask(path: str, leases: bool) -> Look:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not leases:
            return _seen(State.UNCLEAR, os.fstat(fd))
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return _seen(State.WRITTEN if error.errno == errno.EAGAIN else State.UNCLEAR, os.fstat(fd))
        try:
            return _seen(State.FREE, os.fstat(fd))
        finally:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(fd)


def _seen(state: State, found: os.stat_result) -> Look:
    return Look(state, Found(found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino), found.st_ctime_ns)


class Waiting:
    """A file that is not complete yet, and when to look again."""

    __slots__ = ("_changed_ns", "_found", "_pause", "_since", "due", "grew", "settled_by")

    def __init__(self) -> None:
        self._found: Found | None = None
        self._changed_ns = 0
        self._since = 0.0
        self._pause = FASTEST
        self.due = 0.0
        """When (monotonic) it is looked at next; a look planned for another time is outdated."""
        self.grew = False
        """It was longer at one look than at the one before."""
        self.settled_by: Literal["lease", "stillness", "scan"] = "lease"

    def judge(self, look: Look, still_after: float, *, now: float, wall_ns: int) -> float:
        """Seconds until the next look; 0: the file is complete, and `settled_by` says how it is known.

        `now` is a monotonic time, `wall_ns` the time of day. Looks come quickly after each change
        and slow down while nothing happens.
        """
        assert look.found is not None
        moved = (look.found, look.changed_ns) != (self._found, self._changed_ns)
        if moved:
            self.grew = self.grew or (self._found is not None and look.found.size > self._found.size)
            self._found, self._changed_ns, self._since = look.found, look.changed_ns, now
        if look.state is State.FREE and look.found.size:
            age = wall_ns - look.changed_ns
            if not 0 <= age < QUIET_NS:
                self.settled_by = "lease"
                return 0.0
            return (QUIET_NS - age) / 1e9
        if look.state is State.WRITTEN:
            self._pause = FASTEST if moved else min(SLOWEST, self._pause * 1.25)
            self._since = now
            return self._pause
        # No lease to be had, or an empty file, which hardly is what its writer meant.
        if wall_ns - max(look.changed_ns, look.found.modified_ns) > (still_after + SKEW) * 1e9:
            self.settled_by = "scan"
            return 0.0
        left = self._since + still_after - now
        if left <= 0:
            self.settled_by = "stillness"
            return 0.0
        return max(FASTEST, min(SLOWEST, left))


def times() -> tuple[float, int]:
    """The two clocks that `Waiting.judge` needs."""
    return time.monotonic(), time.time_ns()
