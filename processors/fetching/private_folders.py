"""A folder for a socket, which nobody else may enter, below the system's folder for temporary files.

Not below `data`: the path of a unix socket has a hundred characters at most.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "spoolhouse-egress-"
_LOCK = "lock"
"""Held for as long as the folder is in use, also by one who is then killed."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new one, gone afterwards. What those left behind who were killed is cleared away. Raises OSError."""
    _clear_away()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        # Waits only where somebody clears away at this very moment, and has to be undone then.
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(mode=0o700, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _clear_away() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # in use, or gone by now
            if folder.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
