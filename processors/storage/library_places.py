"""Under which names a video and what belongs to it lie in their folder, and how they get there. Everything blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processors.storage.library_folders import Folder, is_file

NAMES = 99
"""Videos of one name in one folder."""

POSTER = "-poster.jpg"
FOLDER_POSTER = "poster.jpg"
SUBTITLES = (".vtt", ".srt", ".ass", ".ssa")

_POSTERS = ("poster.", "folder.", "cover.", "movie.", "default.")
"""How the names begin that media servers take for the poster of a folder."""


def free_name(folder: Folder, name: str, ours: set[str]) -> str:
    """The first name of which nothing lies there yet. Raises FileExistsError."""
    taken = [one.casefold() for one in folder.names() if one not in ours]
    for number in range(1, NAMES + 1):
        stem = name if number == 1 else f"{name}_{number}"
        starts = (f"{stem}.".casefold(), f"{stem}{POSTER}".casefold())
        if not any(one.startswith(starts) for one in taken):
            return stem
    raise FileExistsError(errno.EEXIST, "every name for it is taken", name)


def poster_names(folder: Folder, stem: str, ours: set[str], *, own: bool) -> list[str]:
    """Kodi and Jellyfin look for the first; Plex for a folder's own, or for one that is named as the video is."""
    others = (name for name in folder.names() if name not in ours)
    if own and not any(name.lower().startswith(_POSTERS) for name in others):
        return [f"{stem}{POSTER}", FOLDER_POSTER]
    return [f"{stem}{POSTER}", f"{stem}.jpg"]


def twin_of(poster: Path) -> Path:
    """The same picture for the other name, as a file of its own: not every file system has files of two names."""
    return poster.with_name(f"twin-{poster.name}")


def beside(folder: Folder, name: str) -> list[str]:
    """What lies beside a video and is named as it is."""
    stem = os.path.splitext(name)[0]
    wanted = {f"{stem}.nfo", f"{stem}{POSTER}", f"{stem}.jpg"}
    return sorted(
        one
        for one in folder.names()
        if one in wanted
        or (one.startswith(f"{stem}.") and one.count(".", len(stem) + 1) == 1 and one.endswith(SUBTITLES))
    )


def put(folder: Folder, source: Path, name: str, ours: set[str]) -> None:
    """Let a file appear; what is named in `ours` is replaced."""
    if name in ours and is_file(folder.status(name)):
        # The source stays where it is, for another try.
        beside = source.with_name(f"{source.name}.placing")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        try:
            os.link(source, beside)
        except OSError:
            beside = source
        folder.replace(beside, name)
    else:
        folder.link(source, name)


@contextmanager
def kept_quiet(folder: Folder, name: str) -> Iterator[None]:
    """Nobody takes the file under that name for a finished one meanwhile; nothing happens where there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
