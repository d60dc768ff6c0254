"""Finds files in the upload folder that no manifest explains, and makes them videos of ours.

They lay there before Spoolhouse did, were copied in by hand, or lost their manifest. The id comes
from path and content, so two who look at once make the same video.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from processors.media.signatures import SNIFF, kind_of
from processors.storage.names import printable, without_timestamp
from processors.storage.sidecars import Sidecar, Sidecars
from processors.storage.writers import has_writer
from streams.events import VideoStored
from streams.identity import adopted_video_id
from streams.paths import OsPath, escape_path

_log = structlog.get_logger(__name__)

# fmt: off
EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob",
    ".ts", ".mts", ".m2ts", ".m2t", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".ogg", ".3gp", ".3g2", ".mxf", ".gxf",
    ".dv", ".rm", ".rmvb", ".wtv", ".nut", ".ivf", ".y4m", ".h264", ".264", ".h265", ".hevc",
})
# fmt: on
"""What a file must end in to be adopted, besides those that are watched for."""


class Adopter:
    """Looks for unexplained files in one folder. Blocks: call it in threads."""

    def __init__(self, folder: Path, sidecars: Sidecars, extensions: frozenset[str], still_after: float) -> None:
        """`still_after`: seconds without change after which a file is complete, where leases are refused."""
        self._folder, self._sidecars = folder, sidecars
        self._extensions = EXTENSIONS | extensions
        self._still_after = still_after
        self._explained: set[str] = set()
        self._ids: set[str] = set()

    def unexplained(self) -> list[str]:
        """Paths of files that no manifest explains, complete or not. Reads new manifests only."""
        # The folder first, the manifests after: each is written before its file appears.
        candidates = [path for path in self._paths() if path not in self._explained]
        if not candidates:
            return []
        for sidecar in self._sidecars.beyond(self._ids):
            self._ids.add(sidecar.video)
            self._explained.add(sidecar.event.path)
        candidates = [path for path in candidates if path not in self._explained]
        if candidates:
            self._bring_back(candidates)
        return [path for path in candidates if path not in self._explained]

    def adopt(self, paths: Sequence[str], now: float) -> list[Sidecar]:
        """Write a manifest for each of these files that is complete; say which. `now`: epoch seconds.

        Reads their whole content.
        """
        return [one for path in paths if (one := self._adopt(path, now))]

    def _paths(self) -> Iterator[str]:
        try:
            names = sorted(os.listdir(self._folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in self._extensions:
                yield os.path.join(self._folder, name)

    def _bring_back(self, candidates: Sequence[str]) -> None:
        """Files whose manifest was set aside because they were not there, and now are."""
        wanted = set(candidates)
        for sidecar in self._sidecars.lost():
            if sidecar.event.path in wanted and _size(sidecar.event.path) == sidecar.event.size:
                self._sidecars.restore(sidecar.video)
                self._explained.add(sidecar.event.path)
                _log.info("a lost file is back", video=sidecar.video, path=escape_path(sidecar.event.path))

    def _adopt(self, path: str, now: float) -> Sidecar | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode) or not before.st_size:
                return None
            writer = has_writer(fd)
            if writer or (writer is None and now - before.st_mtime < self._still_after):
                return None
            head = os.pread(fd, SNIFF, 0)
            with open(fd, "rb", buffering=0, closefd=False) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(fd)
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                return None
            os.fsync(fd)
        except OSError as error:
            _log.warning("a file cannot be adopted now", path=escape_path(path), error=str(error))
            return None
        finally:
            os.close(fd)
        sidecar = _manifest(path, before, head, digest)
        self._sidecars.write(sidecar)
        self._ids.add(sidecar.video)
        self._explained.add(path)
        return sidecar


def _manifest(path: str, status: os.stat_result, head: bytes, digest: str) -> Sidecar:
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    name = os.path.basename(path)
    kind = kind_of(head, whole=status.st_size <= SNIFF)
    event = VideoStored(
        door="upload",
        path=OsPath(path),
        stored_name=escape_path(name),
        filename=escape_path(without_timestamp(name)),
        original_name=printable(escape_path(name)),
        label="",
        mime=kind.mime or "application/octet-stream",
        size=status.st_size,
        sha256=digest,
        received_at=modified,
        modified_at=modified,
        damaged=None if kind.verdict == "container" else f"it looks like {kind.name}, not like a video",
        adopted=True,
    )
    video = adopted_video_id(path, digest)
    return Sidecar.of(video, event, source="upload", inode=status.st_ino)


def _size(path: str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return None
