"""Free space, and what an operating system's error means to whoever handed a file in."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from streams.errors import RejectedError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user may still write to the file system of `folder`."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def require_space(folder: Path, size: int) -> None:
    """Refuse at once what cannot fit. Raises RejectedError (507)."""
    free = free_bytes(folder)
    if size > free:
        raise RejectedError(
            507, f"The disk is full: {size} bytes are needed and {free} are free in {folder}. Free some space there."
        )


def refusal(error: OSError, folder: Path) -> RejectedError:
    """The answer to a sender whose file could not be saved: 507 for a full disk, 500 else."""
    if error.errno in _FULL:
        return RejectedError(
            507, f"The disk is full: nothing was saved. Free some space in {folder} and send it again."
        )
    reason = error.strerror or str(error)
    return RejectedError(500, f"The file could not be saved in {folder}: {reason}. Nothing was kept; send it again.")
