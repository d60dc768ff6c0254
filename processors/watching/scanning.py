"""One pass over a watched root: which files differ from what is known, and which are still there.

Runs in a thread. It makes one `scandir` for each folder and one `stat` for each video and nothing
else, and it keeps only what differs: a second start on 100,000 known files keeps nothing but their
names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.watching.comparing import Found, same_file
from streams.queries import KnownFile


class RootLook(NamedTuple):
    """Which folder stands at a root's path: a mount or a replacement changes it."""

    device: int
    inode: int


class RootGoneError(Exception):
    """The root cannot be looked at; the text says why."""


@dataclass(slots=True)
class Scan:
    """What one pass saw. Paths are relative to the root, as `os` gives them."""

    under: str
    """The folder it began at; empty for the root."""
    look: RootLook
    changed: list[str] = field(default_factory=list)
    """Files that are not as they are known, or not known at all."""
    seen: set[str] = field(default_factory=set)
    """Known files that are there as they are known."""
    renumbered: list[tuple[KnownFile, Found]] = field(default_factory=list)
    """Known files that are there on a device with another number (after a reboot, a remount)."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be listed: nothing below them counts as gone."""
    stopped: bool = False
    """It was told to end early; it says nothing about what is missing."""

    def covers(self, relative: str) -> bool:
        """Whether it would have seen this file, were it there."""
        return _below(relative, self.under) and not any(_below(relative, folder) for folder in self.unreadable)


def look_at_root(root: str) -> RootLook:
    """Which folder stands there now. Raises RootGoneError."""
    try:
        found = os.stat(root)
    except FileNotFoundError:
        raise RootGoneError("the folder is not there") from None
    except OSError as error:
        raise RootGoneError(f"the folder cannot be reached: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise RootGoneError("there is something at its path that is not a folder")
    return RootLook(found.st_dev, found.st_ino)


def wanted(name: str, extensions: tuple[str, ...]) -> bool:
    """Whether a file of this name is a video to take in: temporary names are not."""
    return name.lower().endswith(extensions) and not _passed_over(name)


def hidden(relative: str) -> bool:
    """Whether a path lies in a folder that is passed over (`.Trash-1000`, `.stversions`)."""
    return any(_passed_over(part) for part in relative.split(os.sep))


def resolve_inside(root: str, relative: str) -> str | None:
    """The real path of something below a root; None where it lies outside, or is not there."""
    try:
        real = os.path.realpath(os.path.join(root, relative), strict=True)
    except OSError:
        return None
    return real if _below(real, os.path.realpath(root)) else None


@dataclass(slots=True)
class Survey:
    """What a watcher must know of a root before it starts."""

    folders: int = 0
    strays: list[str] = field(default_factory=list)
    """Links to folders outside the root (nothing of ours follows them)."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Links to folders inside the root, each with the folder it leads to."""


def survey(root: str) -> Survey:
    """Count the folders of a root and find the links to folders in it. Raises RootGoneError."""
    look_at_root(root)
    found, pending, real_root = Survey(), [root], os.path.realpath(root)
    while pending:
        path = pending.pop()
        found.folders += 1
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_symlink() and entry.is_dir():
                        relative = os.path.relpath(entry.path, root)
                        real = resolve_inside(root, relative)
                        if real is None:
                            found.strays.append(relative)
                        elif real != real_root:
                            found.links.append((relative, os.path.relpath(real, real_root)))
        except OSError:
            continue  # the scan says so
    return found


def scan(
    root: str,
    extensions: tuple[str, ...],
    known: Callable[[str], KnownFile | None],
    *,
    under: str = "",
    stop: Callable[[], bool] = lambda: False,
) -> Scan:
    """List a root, or the folder `under` in it. Raises RootGoneError where the root is not there.

    A symbolic link is followed where its real path lies inside the root; a link to a folder only
    once, so that links among themselves cannot make it endless.
    """
    result = Scan(under, look_at_root(root))
    pending = _beginning(root, under)
    seen = result.seen.add
    while pending:
        if stop():
            result.stopped = True
            break
        folder, through_link = pending.pop()
        path = os.path.join(root, folder) if folder else root
        prefix = folder + os.sep if folder else ""
        try:
            with _listed(path) as entries:
                for entry in entries:
                    name = entry.name
                    if not entry.is_file(follow_symlinks=False):
                        if entry.is_symlink():
                            _follow(root, prefix + name, through_link, extensions, known, pending, result)
                        elif entry.is_dir(follow_symlinks=False) and not _passed_over(name):
                            pending.append((prefix + name, through_link))
                    elif name.lower().endswith(extensions) and name[0] != "." and name[-1] != "~":  # see `wanted`
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except OSError:
                            continue  # gone again between listing and looking
                        relative = prefix + name
                        file = known(relative)
                        # Written out, as this is what nearly all files of a known root come to.
                        if (
                            file is not None
                            and file.present
                            and file.inode == found.st_ino
                            and file.size == found.st_size
                            and file.modified_ns == found.st_mtime_ns
                            and file.device == found.st_dev
                        ):
                            seen(file.relative)
                        else:
                            _sort(relative, found, known, result)
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                raise RootGoneError("the folder went away while it was listed") from None
        except OSError:
            result.unreadable.append(folder)
    result.changed.sort()
    return result


@contextmanager
def _listed(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What is in a folder. By its descriptor: looking at an entry then need not walk the whole path again."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


def _beginning(root: str, under: str) -> list[tuple[str, bool]]:
    """The folder to begin at, and whether a link led there; none where a link leads out, or in circles."""
    path = os.path.join(root, under)
    if under:
        real = resolve_inside(root, under)
        if real is None or _below(os.path.realpath(os.path.dirname(path)), real):
            return []
    return [(under, bool(under) and os.path.islink(path))]


def _follow(
    root: str,
    relative: str,
    through_link: bool,
    extensions: tuple[str, ...],
    known: Callable[[str], KnownFile | None],
    pending: list[tuple[str, bool]],
    result: Scan,
) -> None:
    """A symbolic link: take it for what it points to, where that lies inside the root."""
    path = os.path.join(root, relative)
    real = resolve_inside(root, relative)
    if real is None:
        return
    try:
        found = os.stat(real)
    except OSError:
        return
    if stat.S_ISDIR(found.st_mode):
        here = os.path.realpath(os.path.dirname(path))
        if not through_link and not _below(here, real) and not _passed_over(os.path.basename(relative)):
            pending.append((relative, True))
    elif wanted(os.path.basename(relative), extensions):
        _sort(relative, found, known, result)


def _sort(relative: str, status: os.stat_result, known: Callable[[str], KnownFile | None], result: Scan) -> None:
    """Known as it is, or changed?"""
    if not stat.S_ISREG(status.st_mode):
        return
    file = known(relative)
    if file is not None and file.present:
        found = Found(status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
        if same_file(file, found):
            result.seen.add(file.relative)
            if (file.device, file.inode) != (found.device, found.inode):
                result.renumbered.append((file, found))
            return
    result.changed.append(relative)


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.endswith("~")


def _below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
