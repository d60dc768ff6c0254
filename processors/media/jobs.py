"""The jobs that a child knows, as its questions and answers put them. Only child processes import this: see `child`."""

from __future__ import annotations

import errno
import os
from typing import Any

from processors.children.answering import Tell
from processors.children.limits import allow_file_size
from processors.media.opening import RefusedError
from streams.paths import unescape_path


def probe(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG001 - soon done
    """`{"path": escaped path, "gps": whether places may be told}` → `{"probed": the fields of ports.Probed}`."""
    from processors.media.reading import read

    try:
        return {"probed": read(os.fsencode(unescape_path(asked["path"])), gps=asked["gps"])}
    except RefusedError as error:
        return _failure(error.kind, error.reason)


def preview(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG001
    """`{"path", "folder": escaped paths, "sprite_name", "threads", "seconds"}` → `{"previews": the fields of
    ports.Previews}`: see `previews.make_previews`.
    """
    from processors.media.previews import make_previews

    path, folder = (os.fsencode(unescape_path(asked[name])) for name in ("path", "folder"))
    try:
        return {"previews": make_previews(path, folder, asked["sprite_name"], asked["threads"], asked["seconds"])}
    except RefusedError as error:
        return _failure(error.kind, error.reason)


def enhance(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`{"job": the fields of ports.EnhanceJob, paths escaped, "reserve": bytes}` → what `enhancing.enhance` says.

    `reserve` is what must stay free on the target's disk.
    """
    from processors.media.enhancing import enhance as work

    leave_free(os.fsencode(unescape_path(asked["job"]["target"])), asked["reserve"])
    return work(asked["job"], tell)


def finish(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`{"job": the fields of ports.FinishJob, paths escaped, "reserve": bytes}` → what `finishing.finish` says."""
    from processors.media.finishing import finish as work

    leave_free(os.fsencode(unescape_path(asked["job"]["target"])), asked["reserve"])
    return work(asked["job"], tell)


def still(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG001 - soon done
    """`{"path", "target": escaped paths, "threads", "seconds", "reserve"}` → `{"still": {}}`: see `posters.make_still`."""
    from processors.media.posters import make_still
    from processors.media.writing import TargetError

    path, target = (os.fsencode(unescape_path(asked[name])) for name in ("path", "target"))
    leave_free(target, asked["reserve"])
    try:
        make_still(path, target, asked["threads"], asked["seconds"])
    except (RefusedError, TargetError) as error:
        return _failure(error.kind, error.reason)
    return {"still": {}}


def leave_free(target: bytes, reserve: int) -> None:
    """Bound what may be written to `target`, so that `reserve` bytes of its disk stay free. Raises OSError."""
    disk = os.statvfs(os.path.dirname(target))
    room = disk.f_bavail * disk.f_frsize - reserve
    if room <= 0:
        raise OSError(errno.ENOSPC, f"less than {reserve} bytes of its disk are free (SPOOLHOUSE_DISK_HARD)")
    allow_file_size(room)


def _failure(kind: str, reason: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "reason": reason}}
