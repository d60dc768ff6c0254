"""Folders below the media root, reached one step at a time, no step through a link: nothing leads out of it.

Everything here blocks: call it in threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.storage.files import fsync_folder, make_folder
from streams.errors import SpoolhouseError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# File systems without hard links say one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES})


class LeadsOutError(SpoolhouseError):
    """A part of a path below the media root is a link or no folder: nothing is written through it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder below the media root."""

    fd: int
    path: Path

    def status(self, name: str) -> os.stat_result | None:
        """What lies there under a name, itself and not what it points to."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """What lies there."""
        return os.listdir(self.fd)

    def link(self, source: Path, name: str) -> None:
        """Let a finished file be seen here too. Raises FileExistsError where the name is taken, OSError."""
        try:
            os.link(source, name, dst_dir_fd=self.fd, follow_symlinks=False)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        # No hard links here: it is moved. Nobody but us makes such names, and ours are told apart by their ids.
        if self.status(name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.rename(source, name, dst_dir_fd=self.fd)

    def replace(self, source: Path, name: str) -> None:
        """Let a finished file take the place of another one, in one step. It is gone from where it was."""
        os.rename(source, name, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Take a file's name away; one that is not there is none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def sync(self) -> None:
        """Make its names durable. Raises OSError."""
        fsync_folder(Path(f"/proc/self/fd/{self.fd}"))


@contextmanager
def opened(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[Folder]:
    """The folder `parts` below the media root. `make`: it and those above it, where they are missing.

    Raises LeadsOutError, OSError (FileNotFoundError where it is not there).
    """
    if any(part in {"", ".", ".."} or "/" in part or "\0" in part for part in parts):
        raise LeadsOutError(f"{'/'.join(parts)!r} is no folder below the media root")
    if make:
        make_folder(root)
    fd = os.open(root, _FOLDER)
    path = root
    try:
        for part in parts:
            if make:
                _make(part, fd)
            path = path / part
            try:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    raise LeadsOutError(
                        f"{path} is a link, or no folder: nothing is written through it. Name another directory"
                    ) from None
                raise
            os.close(fd)
            fd = inner
        yield Folder(fd, path)
    finally:
        os.close(fd)


def prune(root: Path, parts: Sequence[str]) -> None:
    """Remove a folder below the media root, and those above it, as far as they are empty. Never the root."""
    for depth in range(len(parts), 0, -1):
        try:
            with opened(root, parts[: depth - 1]) as folder:
                os.rmdir(parts[depth - 1], dir_fd=folder.fd)
                folder.sync()
        except FileNotFoundError:
            continue
        except (OSError, LeadsOutError):
            return  # it holds something


def below(root: Path, path: str) -> tuple[tuple[str, ...], str]:
    """The folders from the media root to a path, and its name. Raises LeadsOutError for what does not lie in it."""
    start = os.path.join(os.path.normpath(root), "")
    parts = path.removeprefix(start).split(os.sep)
    if not path.startswith(start) or not all(parts) or {".", ".."} & set(parts):
        raise LeadsOutError(f"{path!r} does not lie in the media root {root}")
    return tuple(parts[:-1]), parts[-1]


def is_file(status: os.stat_result | None) -> bool:
    """Whether it is there and a file."""
    return status is not None and stat.S_ISREG(status.st_mode)


def _make(name: str, fd: int) -> None:
    try:
        os.mkdir(name, dir_fd=fd)
    except FileExistsError:
        return
    fsync_folder(Path(f"/proc/self/fd/{fd}"))
