"""Can a root be watched by inotify? Network file systems tell nothing of what others do to them."""

from __future__ import annotations

import os
from pathlib import Path

from streams.settings import Settings

REMOTE = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smb2", "smbfs", "ncpfs", "9p", "afs", "coda", "davfs", "sshfs"),
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "acfs"),
        *("virtiofs", "vboxsf", "prl_fs", "vmhgfs", "fuse", "fuseblk"),
    }
)
"""File systems whose files others may change without our kernel hearing of it."""

SHARE = 0.9
"""Part of the inotify watches that one root may use: other programs need some."""


def why_polling(settings: Settings, root: str, folders: int, strays: list[str]) -> str | None:
    """Why a root must be polled; None where inotify will do. The text says what to do about it."""
    if settings.watch_force_polling:
        return "SPOOLHOUSE_WATCH_FORCE_POLLING is set"
    kind = file_system_of(root)
    if kind is None or kind in REMOTE or kind.startswith("fuse."):
        return f"it lies on a network file system ({kind or 'unknown'})"
    if below := _remote_below(root):
        return f"a network file system is mounted in it at {below}"
    if strays:
        return (
            f"it holds links to folders outside of it ({strays[0]!r} and {len(strays) - 1} more), "
            "which the watcher would follow: remove them to be faster"
        )
    return inotify_shortage(folders)


def file_system_of(path: str) -> str | None:
    """The type of the file system that holds a path, as the kernel's mount table has it."""
    real = os.path.realpath(path)
    best, kind = "", None
    for mounted, type_ in _mounts():
        # The longest mount point wins; among equals the later one lies on top.
        if len(mounted) >= len(best) and _inside(real, mounted):
            best, kind = mounted, type_
    return kind


def _remote_below(root: str) -> str | None:
    real = os.path.realpath(root)
    for mounted, kind in _mounts():
        if mounted != real and _inside(mounted, real) and (kind in REMOTE or kind.startswith("fuse.")):
            return mounted
    return None


def _mounts() -> list[tuple[str, str]]:
    """Mount points and their file systems' types; spaces and the like are octal in the table."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return []
    mounts = []
    for line in table.splitlines():
        left, _, right = line.partition(b" - ")
        point = left.split()[4].decode("unicode_escape").encode("latin-1")
        mounts.append((os.fsdecode(point), right.split()[0].decode()))
    return mounts


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def inotify_shortage(folders: int, proc: str = "/proc/sys/fs/inotify") -> str | None:
    """Why inotify is too small for so many folders, with the command that helps."""
    try:
        watches = int(Path(proc, "max_user_watches").read_text())
        instances = int(Path(proc, "max_user_instances").read_text())
    except (OSError, ValueError):
        return "this system has no inotify"
    if folders > watches * SHARE:
        return f"inotify allows {watches} watches and there are {folders} folders: {more_watches(folders)}"
    if instances < 1:
        return f"inotify allows no instances: {more_watches(folders)}"
    return None


def more_watches(folders: int) -> str:
    """The command that makes inotify large enough."""
    wanted = max(524_288, 2 * folders)
    return (
        f"run `sudo sysctl fs.inotify.max_user_watches={wanted} fs.inotify.max_user_instances=512` and restart "
        "(put it into /etc/sysctl.d/ to keep it)"
    )
