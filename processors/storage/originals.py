"""A file that is about to be removed for good: the very one that we know, and no other.

It is reached from its base folder one step at a time, no step through a link, and it is held open
until it is gone: while someone has a file open no other file gets its inode number, so what lies
under its name at the end can be compared with what was looked at in the beginning.
Everything here blocks: call it in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Self

from processors.storage.offloads import FileIdentity
from processors.storage.writers import has_writer
from streams.errors import SpoolhouseError
from streams.paths import OsPath, escape_path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class NotThereError(SpoolhouseError):
    """There is no file at the path."""


class NotOursError(SpoolhouseError):
    """What lies at the path is nothing that we may remove; the text says why."""


class Original:
    """An open file below a base folder. Made by `open`; a context manager."""

    def __init__(self, path: OsPath, folder: int, fd: int) -> None:
        self.path = path
        self._folder, self._fd, self._name = folder, fd, os.path.basename(path)
        status = os.fstat(fd)
        self.identity = FileIdentity.of(status)
        """As it was when it was opened."""
        self.freed = status.st_size if status.st_nlink == 1 else 0
        """Bytes that the disk has more once its name is gone: none where it has other names (hard links)."""

    @classmethod
    def open(cls, base: Path, path: OsPath) -> Original:
        """Open the file at `path`, which must lie below `base`. Raises NotThereError, NotOursError, OSError."""
        parts = _below(base, path)
        folder = -1
        try:
            folder = os.open(base, _FOLDER)
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            kind = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISREG(kind):
                raise NotOursError(f"{escape_path(path)} is {'a link' if stat.S_ISLNK(kind) else 'no file'}")
            fd = os.open(parts[-1], _FILE, dir_fd=folder)
        except FileNotFoundError:
            _close(folder)
            raise NotThereError("there is no local file") from None
        except NotADirectoryError:
            _close(folder)
            raise NotOursError(f"a part of {escape_path(path)} is a link, or no folder") from None
        except BaseException:
            _close(folder)
            raise
        original = cls(path, folder, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            original.close()
            raise NotOursError(f"{escape_path(path)} is no file")
        return original

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._folder)
            self._fd = -1

    def written_to(self) -> bool | None:
        """Whether someone has it open for writing; None where that cannot be told."""
        return has_writer(self._fd)

    def sha256(self) -> str:
        """Of its content, which is read as a whole."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        with open(self._fd, "rb", buffering=0, closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def unchanged(self) -> bool:
        """Whether the file under the name is still this one, as it was when it was opened."""
        try:
            now = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return FileIdentity.of(now) == self.identity

    def remove(self) -> None:
        """Take its name away, durably. Raises NotOursError where it is not as it was, OSError."""
        if not self.unchanged():
            raise NotOursError(f"{escape_path(self.path)} was changed or replaced just now")
        os.unlink(self._name, dir_fd=self._folder)
        self.settle()

    def settle(self) -> None:
        """Make what happened in its folder durable, as far as the file system knows how."""
        with contextlib.suppress(OSError):
            os.fsync(self._folder)


def _below(base: Path, path: OsPath) -> list[str]:
    """The steps from a folder to a path in it. Raises NotOursError for a path that is not in it."""
    start = os.path.join(os.path.normpath(base), "")
    parts = path.removeprefix(start).split(os.sep)
    if not path.startswith(start) or not all(parts) or {".", ".."} & set(parts):
        raise NotOursError(f"{escape_path(path)} does not lie in {escape_path(str(base))}")
    return parts


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
