"""The jobs that a child knows, as its questions and answers put them. Only child processes import this: see `child`."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from processors.media.child import Tell
from processors.media.limits import allow_file_size
from processors.media.opening import OpeningError
from processors.ports import Advanced, EnhanceJob, Made, Planned
from streams.paths import unescape_path


def probe(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG001 - it is done before there is much to tell
    """`{"path": escaped path, "gps": whether places may be told}` → `{"probed": the fields of ports.Probed}`."""
    from processors.media.reading import read

    try:
        return {"probed": read(os.fsencode(unescape_path(asked["path"])), gps=asked["gps"])}
    except OpeningError as error:
        return _failure(error.kind, error.reason)


def preview(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:  # noqa: ARG001
    """`{"path", "folder": escaped paths, "sprite_name", "seconds": float}` → `{"previews": the fields of ports.Previews}`."""
    from processors.media.previews import make_previews

    path, folder = (os.fsencode(unescape_path(asked[name])) for name in ("path", "folder"))
    try:
        return {"previews": make_previews(path, folder, asked["sprite_name"], asked["seconds"])}
    except OpeningError as error:
        return _failure(error.kind, error.reason)


def enhance(asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """`{"job": the fields of ports.EnhanceJob, paths escaped, "reserve": bytes}` → `{"made": the fields of ports.Made}`.

    It tells `{"planned": …}` and `{"advanced": …}`. `reserve` is what must stay free on the target's disk.
    """
    from processors.media.enhancing import enhance as work

    told = {Planned: "planned", Advanced: "advanced"}
    job = EnhanceJob(
        **{**asked["job"], "path": unescape_path(asked["job"]["path"]), "target": unescape_path(asked["job"]["target"])}
    )
    disk = os.statvfs(os.path.dirname(os.fsencode(job.target)))
    room = disk.f_bavail * disk.f_frsize - asked["reserve"]
    if room <= 0:
        return _failure("disk_full", "there is no room on the disk for what would be made of it")
    allow_file_size(room)
    try:
        done = work(job, lambda one: tell({told[type(one)]: asdict(one)}))
    except OpeningError as error:
        return _failure(error.kind, error.reason)
    return {"made": asdict(done)} if isinstance(done, Made) else {"failure": asdict(done)}


def _failure(kind: str, reason: str) -> dict[str, Any]:
    return {"failure": {"kind": kind, "reason": reason}}
