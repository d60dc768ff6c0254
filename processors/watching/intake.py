"""Where paths wait until it is clear what they are: files still written, files that went away.

Everything that may have changed comes in here, from the watcher and from scans alike; what is
complete is compared with what is known and registered.
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections import deque
from collections.abc import Iterable

import structlog

from processors.watching.comparing import Found, compare, same_file
from processors.watching.fitting import unfit
from processors.watching.growth import Growing
from processors.watching.registering import BATCH, Registrar, SettledBy
from processors.watching.scanning import hidden, wanted
from processors.watching.settling import FASTEST, Look, State, Waiting, look_at, times
from processors.watching.threads import Threads
from streams.paths import escape_path
from streams.queries import KnownFile
from streams.settings import Settings

QUIET = 0.5
"""Seconds without further removals after which the removals so far are believed: the other half of
a rename may still come."""

PATIENCE = 10.0
"""Seconds that removals wait for quiet at the most."""

LOOKS = 4 * BATCH
"""Files that are looked at together."""

TURNS = 5
"""Times that so many are registered before the root gets its other work done."""

CROWD = 100
"""From so many waiting files on, each is looked at less often."""

_log = structlog.get_logger(__name__)


class Intake:
    """The paths of one root that must be looked at."""

    def __init__(
        self,
        settings: Settings,
        root: str,
        registrar: Registrar,
        threads: Threads,
        growing: Growing,
        *,
        leases: bool,
    ) -> None:
        self._settings, self._root, self._registrar, self._threads = settings, root, registrar, threads
        self._growing = growing
        self._extensions = tuple(settings.watch_extensions)
        self._leases = leases
        self._fresh: dict[str, bool] = {}
        self._order: deque[str] = deque()
        self._waiting: dict[str, Waiting] = {}
        self._due: list[tuple[float, str]] = []
        self._gone: dict[str, None] = {}
        self._gone_first = self._gone_last = 0.0
        self._refused: set[str] = set()
        self.folders: dict[str, float] = {}
        """Folders that appeared, and when (monotonic) they are to be scanned."""
        self.devices: dict[int, int] = {}
        """Device numbers of old → what stands for the same file system now."""
        self.taken = self.enqueued = 0
        """How many paths were looked at and handed in, ever: a scan's are through once the one
        passed what the other was."""
        self.additions_only = False
        """The root seems to be another file system: known files are not to be touched."""

    # ------------------------------------------------------------ what comes in

    def changed(self, relative: str) -> None:
        """A file was written to, or its attributes changed."""
        if wanted(os.path.basename(relative), self._extensions) and not hidden(relative):
            self.add(relative)

    def appeared(self, relative: str) -> None:
        """Something is new: a file, or a folder with all that is in it."""
        if wanted(os.path.basename(relative), self._extensions):
            self.changed(relative)
        elif not hidden(relative):
            self.folders[relative] = 0.0

    def went(self, relative: str) -> None:
        """Something was deleted or renamed: a file, or a folder with all that was in it."""
        known = self._registrar.index.at(relative)
        if known is not None and known.present:
            self._note_gone(relative)
        elif relative not in self._waiting:
            for file in self._registrar.index.below([relative]):
                self._note_gone(file.relative)
        if relative in self._waiting:
            self.add(relative)

    def add(self, relative: str, *, checked: bool = False) -> None:
        """Look at a path soon. `checked`: a scan saw that no link leads out of the root."""
        if relative not in self._fresh and relative not in self._refused:
            self._fresh[relative] = checked
            self._order.append(relative)
            self.enqueued += 1

    def knows(self, relative: str) -> bool:
        """Whether a path is being dealt with."""
        return relative in self._waiting or relative in self._fresh or relative in self._refused

    def went_away(self, relative: str) -> bool:
        """Whether a removal is being dealt with."""
        return relative in self._gone

    @property
    def next_due(self) -> float | None:
        """When (monotonic) there is something to do; None: nothing is waited for."""
        if self._fresh:
            return 0.0
        times_ = [self._due[0][0]] if self._due else []
        times_ += self.folders.values()
        if self._gone:
            times_.append(min(self._gone_last + QUIET, self._gone_first + PATIENCE))
        return min(times_, default=None)

    # ------------------------------------------------------------ what becomes of it

    async def step(self) -> None:
        """Look at what is due (some of it) and register what is complete."""
        looking = self._look_at_next()
        try:
            for turn in range(TURNS):
                if looking is None:
                    return
                looks, fresh = await looking
                settled, settled_by = self._judge(looks)
                # While the log takes these, the next are looked at.
                looking = self._look_at_next() if turn < TURNS - 1 and fresh == LOOKS else None
                await self._register(settled, settled_by)
                self.taken += fresh
        finally:
            if looking is not None:
                looking.cancel()

    def _look_at_next(self) -> asyncio.Task[tuple[list[tuple[str, Look]], int]] | None:
        """Begin to look at the next paths; None where there are none."""
        batch, fresh = self._take()

        async def look() -> tuple[list[tuple[str, Look]], int]:
            return await self._threads.run(_look_all, self._root, batch, self._leases), fresh

        return asyncio.create_task(look()) if batch else None

    async def removals(self) -> list[KnownFile]:
        """Known files that are gone for certain, once things are quiet; empty before that."""
        now, _ = times()
        if not self._gone or self._fresh or now < min(self._gone_last + QUIET, self._gone_first + PATIENCE):
            return []
        paths, self._gone = list(self._gone), {}
        return await self.really_gone(file for path in paths if (file := self._registrar.index.at(path)))

    async def really_gone(self, files: Iterable[KnownFile]) -> list[KnownFile]:
        """Those of the files that are not there (unreadable is not gone)."""
        at = self._registrar.index.at
        asked = [file for file in files if file.present]
        gone = await self._threads.run(_gone_of, self._root, [file.relative for file in asked])
        return [file for file in asked if file.relative in gone and at(file.relative) is file]

    def due_folders(self) -> list[str]:
        """Folders to scan now. Each comes once more: the watcher may not have been in it yet."""
        now, _ = times()
        due = [folder for folder, at in self.folders.items() if at <= now]
        for folder in due:
            if self.folders.pop(folder) == 0.0:
                self.folders[folder] = now + 1.0
        return due

    def _take(self) -> tuple[list[tuple[str, bool]], int]:
        """The next paths to look at, and how many of them were just handed in."""
        now, _ = times()
        batch: dict[str, bool] = {}
        while self._due and self._due[0][0] <= now and len(batch) < LOOKS:
            due, relative = heapq.heappop(self._due)
            if (waiting := self._waiting.get(relative)) and waiting.due == due:
                batch[relative] = False
        fresh = 0
        while self._fresh and fresh < LOOKS:
            relative = self._order.popleft()
            batch[relative] = self._fresh.pop(relative)
            fresh += 1
        return list(batch.items()), fresh

    def _judge(self, looks: list[tuple[str, Look]]) -> tuple[dict[str, Found], dict[str, SettledBy]]:
        """Sort what was looked at: complete, to be waited for, gone, nothing to us."""
        now, wall_ns = times()
        settled: dict[str, Found] = {}
        settled_by: dict[str, SettledBy] = {}
        crowd = max(1.0, len(self._waiting) / CROWD)
        for relative, look in looks:
            known = self._registrar.index.at(relative)
            there = known is not None and known.present
            if look.found is None or (there and same_file(known, look.found)):  # type: ignore[arg-type]
                self._waiting.pop(relative, None)
                self._growing.went(relative)
                if look.state is State.GONE and there:
                    self._note_gone(relative)
                elif look.state is State.FOLDER:
                    self.folders.setdefault(relative, 0.0)
                continue
            if (there and self.additions_only) or not self._fits(relative):
                self._waiting.pop(relative, None)
                continue
            waiting = self._waiting.setdefault(relative, Waiting())
            pause = waiting.judge(look, self._settings.watch_still_after, now=now, wall_ns=wall_ns)
            if pause:
                self._wait_for(relative, waiting, now + pause * crowd)
                if look.state is State.WRITTEN or (look.state is State.UNCLEAR and waiting.grew):
                    self._growing.told(relative, look.found)
            else:
                settled[relative], settled_by[relative] = look.found, waiting.settled_by
        return settled, settled_by

    def _wait_for(self, relative: str, waiting: Waiting, due: float) -> None:
        waiting.due = due
        heapq.heappush(self._due, (due, relative))

    async def _register(self, settled: dict[str, Found], settled_by: dict[str, SettledBy]) -> None:
        settled = await self._finished(settled)
        if not settled:
            return
        await self._registrar.restored(settled)
        index = self._registrar.index
        former = {
            file.relative: file
            for relative, found in settled.items()
            if (file := index.like(found, self.devices)) and file.relative != relative and file.relative not in settled
        }
        looks = await self._threads.run(_look_all, self._root, [(path, False) for path in former], self._leases)
        left = [former[path] for path, look in looks if look.found is None or not same_file(former[path], look.found)]
        changes = compare(index.at, settled, left, self.devices)
        changes.removed = []  # that takes longer to be believed: see `removals`
        for relative in await self._registrar.register(changes, settled_by):
            self.add(relative)
        for file in left:
            self.add(file.relative)

    async def _finished(self, settled: dict[str, Found]) -> dict[str, Found]:
        """The complete files of which nothing is on its way to a store any more; the others wait a little.

        What is sent late must not be able to take the place of what the replication sends once the
        file is registered.
        """
        unfinished = await self._growing.unfinished(settled) if settled else set()
        now, _ = times()
        for relative in settled:
            if relative in unfinished and (waiting := self._waiting.get(relative)):
                self._wait_for(relative, waiting, now + FASTEST)
            else:
                self._waiting.pop(relative, None)
        return {relative: found for relative, found in settled.items() if relative not in unfinished}

    def _fits(self, relative: str) -> bool:
        reason = unfit(self._settings, self._root, relative)
        if reason is None:
            return True
        self._refused.add(relative)
        _log.warning("file refused", path=escape_path(os.path.join(self._root, relative)), reason=reason)
        return False

    def _note_gone(self, relative: str) -> None:
        now, _ = times()
        if not self._gone:
            self._gone_first = now
        self._gone[relative] = None
        self._gone_last = now


def _look_all(root: str, paths: list[tuple[str, bool]], leases: bool) -> list[tuple[str, Look]]:
    return [(path, look_at(root, path, leases=leases, checked=checked)) for path, checked in paths]


def _gone_of(root: str, paths: list[str]) -> set[str]:
    gone = set()
    for path in paths:
        try:
            os.lstat(os.path.join(root, path))
        except (FileNotFoundError, NotADirectoryError):
            gone.add(path)
        except OSError:
            continue
    return gone
