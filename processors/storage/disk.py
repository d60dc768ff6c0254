"""Free space, the marks below which it counts as little, and what a full disk means to whoever hands a file in."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from streams.errors import RejectedError
from streams.settings import Settings

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

LOW_SHARE, HARD_SHARE = 10, 50
"""The default marks are never above a tenth and a fiftieth of a file system: small ones would always be full."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Space:
    """A file system, as of now. Bytes."""

    free: int
    """What an ordinary user may still write."""
    total: int
    device: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Bytes of free space below which there are warnings (`low`), and nothing is taken in (`hard`)."""

    low: int = 0
    hard: int = 0
    low_to_the_letter: bool = True
    hard_to_the_letter: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Marks:
        """Those of the settings: what someone set holds to the letter, defaults bow to the size of the disk."""
        told = settings.model_fields_set
        return cls(settings.disk_low, settings.hard_mark, "disk_low" in told, "disk_hard" in told)

    def on(self, total: int) -> tuple[int, int]:
        """The marks, low and hard, on a file system of that size."""
        low = self.low if self.low_to_the_letter else min(self.low, total // LOW_SHARE)
        hard = self.hard if self.hard_to_the_letter else min(self.hard, total // HARD_SHARE)
        return max(low, hard), hard


NO_MARKS = Marks()
"""Nothing is kept free."""


def space(folder: Path) -> Space:
    """The file system of a folder, or of the nearest one above it that is there. Raises OSError."""
    while True:
        try:
            found = os.statvfs(folder)
            return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, os.stat(folder).st_dev)
        except FileNotFoundError:
            if folder == folder.parent:
                raise
            folder = folder.parent


def require_space(folder: Path, size: int, marks: Marks = NO_MARKS) -> None:
    """Refuse at once what cannot fit, or leaves less than the hard mark. Raises RejectedError (507), OSError."""
    found = space(folder)
    if size > found.free:
        raise RejectedError(
            507,
            f"The disk is full: {size} bytes are needed and {found.free} are free in {folder}. Free some space there.",
        )
    _, hard = marks.on(found.total)
    if found.free - size < hard:
        raise RejectedError(
            507,
            f"The disk is nearly full: {found.free / MIB:.2f} MB are free in {folder}, {size / MIB:.2f} MB are needed "
            f"and {hard / MIB:.2f} MB are kept free (SPOOLHOUSE_DISK_HARD). Free some space there.",
        )


def refusal(error: OSError, folder: Path) -> RejectedError:
    """The answer to a sender whose file could not be saved: 507 for a full disk, 500 else."""
    if error.errno in _FULL:
        return RejectedError(
            507, f"The disk is full: nothing was saved. Free some space in {folder} and send it again."
        )
    reason = error.strerror or str(error)
    return RejectedError(500, f"The file could not be saved in {folder}: {reason}. Nothing was kept; send it again.")
