"""Where downloads lie while they come in: on the file system of the media root, and not in it.

From there a finished file gets its place in one step. Two folders of one disk may still be two mounts (as in
containers), between which nothing can be linked: so mounts are compared, not disks. Everything here blocks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from processors.storage.files import make_folder, write_durably
from streams.errors import SettingsError
from streams.settings import Settings

HIDDEN = ".spoolhouse-unfinished"
"""Folder in the media root that is used where there is no other way."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The folder."""

    folder: Path
    warning: str | None
    """Why it is not as it should be, and what to do; None: all is well."""


def unfinished(settings: Settings) -> Unfinished:
    """The folder for what comes in; it need not be there yet.

    Raises SettingsError where the one that was named cannot be used, OSError.
    """
    root = Path(os.path.normpath(settings.downloads))
    there = _mount(root)
    if settings.unfinished_dir is not None:
        if _mount(settings.unfinished_dir) != there:
            raise SettingsError(
                f"SPOOLHOUSE_UNFINISHED_DIR ({settings.unfinished_dir}) and the media root ({root}) are different file "
                "systems, or different mounts of one: a finished file could not get there in one step. Name a folder "
                "beside the media root, or mount their common parent"
            )
        return Unfinished(settings.unfinished_dir, None)
    sibling = root.parent / f"{root.name}-unfinished"
    for candidate in (settings.data / "unfinished", sibling):
        if _mount(candidate) == there and _may_be_made(candidate):
            return Unfinished(candidate, None)
    return Unfinished(
        root / HIDDEN,
        f"what comes down lies in {root / HIDDEN} until it is finished: the media root is a file system of its own. "
        "Media servers skip that folder; to have it elsewhere, set SPOOLHOUSE_MEDIA_ROOT to a folder in that file system",
    )


def prepared(settings: Settings) -> Path:
    """The same, made where it is missing. Raises SettingsError, OSError."""
    folder = unfinished(settings).folder
    make_folder(folder)
    if folder.name == HIDDEN and not (folder / ".plexignore").exists():
        write_durably(folder / ".plexignore", b"*\n")
        write_durably(folder / ".ignore", b"")
    return folder


def _mount(folder: Path) -> tuple[int, str]:
    """The file system and the mount of a folder, or of the nearest one above it that is there. Raises OSError."""
    for one in (folder, *folder.parents):
        try:
            fd = os.open(one, _FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
            mount = next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")
            return os.fstat(fd).st_dev, mount
        finally:
            os.close(fd)
    raise FileNotFoundError(folder)


def _may_be_made(folder: Path) -> bool:
    above = next(one for one in (folder, *folder.parents) if one.is_dir())
    return os.access(above, os.W_OK | os.X_OK)
