"""Watches how much room is left on the disks that we write to, and says so when it gets little.

Each worker looks for itself (a `statvfs` every few seconds) and tells in its account what it saw;
one of them, under a lease, writes the changes into the log. Below the hard mark watching pauses,
and uploads are refused: the API looks by itself, each time (see `storage.disk`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from processors.storage.disk import MIB, Marks, space
from processors.storage.threads import in_thread
from streams.background import stop_if_cancelled
from streams.codec import Recorded
from streams.errors import ConflictError, LogUnavailableError
from streams.events import DiskSpaceLow, DiskSpaceRecovered
from streams.identity import DISK
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.settings import Settings

_log = structlog.get_logger(__name__)

LOOK = 2.0
"""Seconds between two looks."""

LEEWAY = 1.1
"""A mark that was passed counts as left behind only with a tenth more: no event for each file that comes and goes."""

Level = Literal["ok", "low", "hard"]


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system, as it was seen last."""

    folder: Path
    """The first of our folders that lies on it."""
    free: int
    """Bytes."""
    low: int
    """Bytes: the marks."""
    hard: int
    level: Level

    def words(self) -> str:
        """What a person should know of it."""
        mark = self.hard if self.level == "hard" else self.low
        told = f"{self.free / MIB:.2f} MB are free in {self.folder}, less than {mark / MIB:.2f} MB"
        if self.level == "hard":
            return f"{told} (SPOOLHOUSE_DISK_HARD): uploads are refused and watching pauses until some space is freed there"
        return f"{told} (SPOOLHOUSE_DISK_LOW): free some space there"


class Disks:
    """The disks of this machine that we write to."""

    def __init__(self, settings: Settings) -> None:
        self._marks = Marks.of(settings)
        self._folders = folders_of(settings)
        self.disks: list[Disk] = []
        """As of the last look."""
        self._unseen: set[Path] = set()

    def full(self) -> str | None:
        """Why nothing is taken in just now; None: there is room."""
        return next(iter(self.problems()), None)

    def problems(self) -> list[str]:
        """What keeps us from taking anything in."""
        return [disk.words() for disk in self.disks if disk.level == "hard"]

    def warnings(self) -> list[str]:
        """What is about to."""
        return [disk.words() for disk in self.disks if disk.level == "low"]

    async def run(self) -> None:
        """Look for ever."""
        while True:
            stop_if_cancelled()
            await self.look()
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Look once, and say what changed."""
        before = {disk.folder: disk for disk in self.disks}
        self.disks = await in_thread(self._seen, before)
        for disk in self.disks:
            was = before[disk.folder].level if disk.folder in before else "ok"
            if disk.level == was:
                continue
            if disk.level == "ok":
                _log.info("disk has room again", folder=str(disk.folder), free=disk.free)
            elif disk.level == "hard":
                _log.error("disk is full", free=disk.free, mark=disk.hard, reason=disk.words())
            else:
                _log.warning("disk space is low", free=disk.free, mark=disk.low, reason=disk.words())

    def remember(self, levels: dict[str, Level]) -> None:
        """What the log says of the disks: where a mark has been passed, its leeway holds."""
        self.disks = [
            Disk(disk.folder, disk.free, disk.low, disk.hard, self._level(disk.free, (disk.low, disk.hard), was))
            if (was := levels.get(str(disk.folder), "ok")) != disk.level
            else disk
            for disk in self.disks
        ]

    def _seen(self, before: dict[Path, Disk]) -> list[Disk]:
        found: dict[int, Disk] = {}
        for folder in self._folders:
            try:
                now = space(folder)
            except OSError as error:
                if folder not in self._unseen:
                    self._unseen.add(folder)
                    _log.warning("free space cannot be told", folder=str(folder), error=str(error))
                continue
            self._unseen.discard(folder)
            marks = self._marks.on(now.total)
            was = before[folder].level if folder in before else "ok"
            found.setdefault(now.device, Disk(folder, now.free, *marks, self._level(now.free, marks, was)))
        return list(found.values())

    @staticmethod
    def _level(free: int, marks: tuple[int, int], was: Level) -> Level:
        low, hard = marks
        if free < (hard * LEEWAY if was == "hard" else hard):
            return "hard"
        return "low" if free < (low if was == "ok" else low * LEEWAY) else "ok"


class DiskReports:
    """Writes into the log what became of the disks. One process at a time runs it."""

    def __init__(self, log: Log, disks: Disks) -> None:
        self._log, self._disks = log, disks
        self._known: tuple[int, int, dict[str, Level]] | None = None

    async def run(self) -> None:
        """Report for ever; what cannot be written now is written later, as it is then."""
        while True:
            stop_if_cancelled()
            try:
                await self.report()
            except LogUnavailableError as error:
                _log.debug("disk space not reported", error=str(error))
            await asyncio.sleep(LOOK)

    async def report(self) -> int:
        """Append what changed since the last report, whoever made it; how many events that were.

        Raises LogUnavailableError.
        """
        if self._known is None:
            self._known = told(await self._log.history(DISK))
            self._disks.remember(self._known[2])
        ver, warning, levels = self._known
        self._known = None  # known again once all of it is in the log for certain
        appended = 0
        for disk in self._disks.disks:
            if levels.get(str(disk.folder), "ok") == disk.level:
                continue
            event = _change(disk, warning + 1)
            try:
                placed = await self._log.append(new_event(DISK, event, source="disk", expected=ver))
            except ConflictError:
                return appended  # someone else reported, or the log lost its tail
            if placed.duplicate:
                return appended  # under that number the log has an earlier change, whose answer had not come
            ver, warning, levels = placed.ver, warning + 1, {**levels, str(disk.folder): disk.level}
            appended += 1
        self._known = ver, warning, levels
        return appended


def _change(disk: Disk, number: int) -> DiskSpaceLow | DiskSpaceRecovered:
    path = OsPath(str(disk.folder))
    if disk.level == "ok":
        return DiskSpaceRecovered(path=path, free=disk.free, warning=number)
    limit = disk.hard if disk.level == "hard" else disk.low
    return DiskSpaceLow(path=path, free=disk.free, limit=limit, mark=disk.level, warning=number)


def told(history: Iterable[Recorded[Any]]) -> tuple[int, int, dict[str, Level]]:
    """The subject's version, the number of its last warning, and how each disk stands by it."""
    ver, warning, levels = 0, 0, dict[str, Level]()
    for recorded in history:
        ver = recorded.ver
        match recorded.event:
            case DiskSpaceLow() as event:
                warning, levels[event.path] = event.warning, event.mark
            case DiskSpaceRecovered() as event:
                warning, levels[event.path] = event.warning, "ok"
    return ver, warning, levels


def folders_of(settings: Settings) -> list[Path]:
    """The folders that are written to, the most important one of each disk first."""
    folders = [settings.data, settings.uploads, settings.working, settings.logs]
    if settings.redis_url is None:
        folders.append(settings.data / "redis")
    return list(dict.fromkeys(folders))
