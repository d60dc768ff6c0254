"""A watched root: hears of changes, scans now and then, and appends what happened.

One task listens, one works. Scans run beside the work in a thread, so that a file that is closed
during a long scan still appears at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import structlog

from processors.watching.asking import Questions
from processors.watching.fitting import unfit_root
from processors.watching.growth import GrowingOf, NoGrowth
from processors.watching.holds import RootState
from processors.watching.intake import Intake
from processors.watching.knowing import Index
from processors.watching.listening import Listening
from processors.watching.patience import patiently
from processors.watching.registering import Registrar
from processors.watching.scanning import RootGoneError, RootLook, Scan, look_at_root, scan
from processors.watching.settling import ignore_lease_breaks, times
from processors.watching.threads import Threads
from streams.background import stop_if_cancelled
from streams.errors import DependencyDownError, SettingsError
from streams.log import Log
from streams.paths import OsPath, escape_path
from streams.queries import KnownFile, WatchedFiles
from streams.settings import Settings

ROOT_CHECK = 1.0
"""Seconds between looks at whether the root itself is still the same folder."""

_log = structlog.get_logger(__name__)

Exclusive = Callable[[], AbstractAsyncContextManager[object]]


class WatchedRoot:
    """The source of one watched folder. Only one process may run it: that is what `exclusive` is for."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        root: str | os.PathLike[str],
        files: WatchedFiles,
        exclusive: Exclusive = nullcontext,
        *,
        growing: GrowingOf = NoGrowth,
        paused: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Raises SettingsError for a root whose path the catalogue could not hold.

        `growing` copies files that are still being written. While `paused` gives a reason, nothing
        is registered, and the reason is told.
        """
        self.root = OsPath(os.path.normpath(os.fspath(root)))
        if reason := unfit_root(self.root):
            raise SettingsError(f"{escape_path(self.root)} cannot be watched: {reason}")
        self._log, self._settings, self._files, self._exclusive = log, settings, files, exclusive
        self._growing_of, self._paused = growing, paused
        self._pause: str | None = None
        self._extensions = tuple(settings.watch_extensions)
        self._said = _log.bind(root=escape_path(self.root))
        self._wake = asyncio.Event()
        self._state: Callable[[], RootState] = RootState
        self._epoch = 0
        self._look: RootLook | None = None
        self._gone = False
        self._next_scan = 0.0
        self._next_check = 0.0
        self._scanning: asyncio.Task[Scan] | None = None
        self._known_before: list[KnownFile] = []
        self._scanned: tuple[Scan, int] | None = None
        self._heard: set[str] | None = None
        self._unreadable: set[str] = set()
        self._rescan = False

    @property
    def held(self) -> str | None:
        """The question that waits for a person's answer, in words."""
        question = self._state().open
        if question is None:
            return None
        return (
            f"{escape_path(self.root)} is held: {question.reason} ({question.missing} files). Nothing is removed until they "
            "are back or you answer: `spoolhouse held confirm` or `held reject`"
        )

    @property
    def waits(self) -> str | None:
        """Why nothing is registered just now, in words."""
        return f"{escape_path(self.root)} is not looked at: {self._pause}" if self._pause else None

    async def run(self) -> None:
        """Watch until cancelled."""
        async with self._exclusive():
            self._threads = Threads(escape_path(self.root))
            try:
                self._begin()
                # The watcher takes its time: it is set up while the catalogue is read, where there is a folder.
                listens = await self._looked()
                listening = asyncio.create_task(self._listening.run()) if listens else None
                try:
                    await self._prepare()
                    async with self._growing.running(), asyncio.TaskGroup() as tasks:
                        tasks.create_task(_ended(listening) if listening else self._listening.run())
                        tasks.create_task(self._work())
                finally:
                    if listening is not None:
                        listening.cancel()
                        await asyncio.gather(listening, return_exceptions=True)
            finally:
                if self._scanning is not None:
                    self._scanning.cancel()
                self._threads.close()

    def _begin(self) -> None:
        """Everything as it was before the first run."""
        self._leases = leases = ignore_lease_breaks()
        self._registrar = Registrar(self._log, self._settings, self.root, Index())
        self._growing = self._growing_of(self.root, self._registrar)
        self._intake = Intake(self._settings, self.root, self._registrar, self._threads, self._growing, leases=leases)
        self._questions = Questions(self._log, self.root, self._registrar, self._intake)
        self._state = lambda: self._questions.state
        self._listening = Listening(self._settings, self.root, self._threads, self)
        self._scanning, self._scanned, self._look, self._heard = None, None, None, None
        self._gone, self._rescan = False, False
        self._next_scan = self._next_check = float("inf")

    async def _looked(self) -> bool:
        """Tell the watcher which folder stands at the root; False where none does."""
        try:
            self._listening.told(await self._threads.run(look_at_root, self.root))
        except RootGoneError:
            return False
        return True

    async def _prepare(self) -> None:
        await self._load()
        await self._questions.open()
        if not self._questions.state.registered:
            try:
                await self._threads.run(lambda: os.makedirs(self.root, exist_ok=True))
            except OSError as error:
                self._said.warning("folder cannot be made", error=error.strerror)
            await self._questions.register()
        self._next_check = 0.0
        self._said.info("watching", files=self._registrar.index.present, leases=self._leases)

    async def _load(self) -> None:
        """Learn what the catalogue knows, once it knows all that the log holds."""
        self._epoch = await patiently(self._log.epoch)
        said = False
        while True:
            stop_if_cancelled()
            try:
                if await patiently(lambda: self._files.caught_up(5.0)):
                    known = await patiently(lambda: self._files.known(self.root))
                    break
                reason = "it has not caught up with the log"
            except DependencyDownError as error:
                reason = str(error)
                await asyncio.sleep(1.0)
            if not said:
                self._said.info("waiting for the catalogue", reason=reason)
                said = True
        self._registrar.index = Index(known)

    # ------------------------------------------------------------ what the listener tells

    def appeared(self, relative: str) -> None:
        """Something is new."""
        for path in self._hear(relative):
            self._intake.appeared(path)

    def changed(self, relative: str) -> None:
        """Something was written to."""
        for path in self._hear(relative):
            self._intake.changed(path)

    def went(self, relative: str) -> None:
        """Something is gone."""
        for path in self._hear(relative):
            self._intake.went(path)

    def lost(self) -> None:
        """The root itself was deleted; what stands there now, if anything, is another folder."""
        self._look = None
        self._questions.accepted = False
        self.scan_soon()

    def ready(self) -> None:
        """Events come from now on: what happened before, a scan finds."""
        self.scan_soon()

    def scan_soon(self) -> None:
        """Scan as soon as no other scan runs."""
        self._next_scan = 0.0
        self._rescan = False
        self._wake.set()

    def _hear(self, relative: str) -> list[str]:
        """Take note of a path, and of the others that links give it."""
        paths = [relative, *self._listening.twins(relative)]
        if self._heard is not None:
            self._heard.update(paths)
        if self._questions.state.open is not None:
            self._next_scan = min(self._next_scan, times()[0] + 0.5)
        self._wake.set()
        return paths

    # ------------------------------------------------------------ work

    async def _work(self) -> None:
        while True:
            stop_if_cancelled()
            await self._wait()
            if self._pausing():
                await asyncio.sleep(ROOT_CHECK)
                continue
            await self._check_root()
            await self._intake.step()
            await self._scan_folders()
            await self._start_scan()
            await self._end_scan()
            await self._after_scan()
            if removed := await self._intake.removals():
                await self._questions.vanished(removed, await self._continuous())
            if await self._questions.poll():
                self.scan_soon()

    async def _wait(self) -> None:
        """Until something is due, or something came in."""
        now, _ = times()
        due = [self._next_check]
        if self._intake.next_due is not None:
            due.append(self._intake.next_due)
        if self._scanning is None and self._scanned is None:
            due.append(self._next_scan)
        pause = min(due) - now
        if pause > 0 and not self._wake.is_set():
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(0)
        self._wake.clear()

    def _pausing(self) -> bool:
        """Whether nothing is to be registered; said once when it begins and once when it is over."""
        reason = self._paused()
        if reason and not self._pause:
            self._said.warning("watching pauses: nothing is registered until that is over", reason=reason)
        elif self._pause and not reason:
            self._said.info("watching goes on")
        self._pause = reason
        return bool(reason)

    async def _check_root(self) -> None:
        now, _ = times()
        if now < self._next_check:
            return
        self._next_check = now + ROOT_CHECK
        try:
            look = await self._threads.run(look_at_root, self.root)
        except RootGoneError:
            if not self._gone:
                self._gone, self._look = True, None
                self._listening.lost()
                self.scan_soon()  # it is the scan that asks
        else:
            self._gone = False
            if self._listening.told(look):
                self._questions.accepted = False
                self.scan_soon()

    async def _continuous(self) -> bool:
        """Whether the root is the very folder that the last scan saw."""
        try:
            return self._look is not None and await self._threads.run(look_at_root, self.root) == self._look
        except RootGoneError:
            return False

    async def _scan_folders(self) -> None:
        for folder in self._intake.due_folders():
            try:
                found = await self._threads.run(
                    scan, self.root, self._extensions, self._registrar.index.at, under=folder, stop=self._stop
                )
            except RootGoneError:
                return
            for relative in found.changed:
                self._intake.add(relative, checked=True)

    def _stop(self) -> bool:
        return self._threads.closing

    async def _start_scan(self) -> None:
        if self._scanning is not None or self._scanned is not None or times()[0] < self._next_scan:
            return
        self._next_scan = float("inf")
        if await patiently(self._log.epoch) != self._epoch:
            self._said.warning("the log lost its tail; learning anew what is known")
            await self._load()
        self._known_before = list(self._registrar.index.there())
        self._heard = set()
        self._scanning = asyncio.create_task(self._scan())
        self._scanning.add_done_callback(lambda _: self._wake.set())

    async def _scan(self) -> Scan:
        found = await self._threads.run(scan, self.root, self._extensions, self._registrar.index.at, stop=self._stop)
        await asyncio.sleep(0.1 if self._rescan else 0)  # events about the last of it may be on their way
        return found

    async def _end_scan(self) -> None:
        """A scan came back: what it found is looked at first, what it missed is judged after that."""
        if self._scanning is None or not self._scanning.done():
            return
        task, self._scanning = self._scanning, None
        try:
            found = task.result()
        except RootGoneError as error:
            self._heard, self._look = None, None
            await self._questions.root_gone(str(error))
            self._plan()
            return
        if found.stopped:
            return
        self._complain(found)
        other = self._look != found.look
        devices = self._registrar.index.devices() if other else set()
        for known, file in found.renumbered:
            if known.inode == file.inode:
                self._intake.devices[known.device] = file.device
            self._registrar.index.renumber(known, file)
        strange = bool(devices and found.look.device not in devices and not found.seen and not self._questions.accepted)
        self._intake.additions_only = strange
        heard, self._heard = self._heard or set(), None
        silent = [path for path in found.changed if path not in heard and not self._intake.knows(path)]
        self._dropped(silent)
        for relative in found.changed:
            self._intake.add(relative, checked=True)
        self._scanned = (found, self._intake.enqueued)

    async def _after_scan(self) -> None:
        """Once what a scan found is dealt with (a move takes from what is missing): what is gone?"""
        if self._scanned is None or self._intake.taken < self._scanned[1]:
            return
        found, self._scanned = self._scanned[0], None
        at = self._registrar.index.at
        lost = [
            file
            for file in self._known_before
            if file.relative not in found.seen and at(file.relative) is file and found.covers(file.relative)
        ]
        self._known_before = []
        continuous = self._look == found.look
        strange = self._intake.additions_only
        missing = lost if strange else await self._intake.really_gone(lost)
        if not strange:
            self._dropped([file.relative for file in missing if not self._intake.went_away(file.relative)])
        self._look = found.look
        await self._questions.judge(missing, found.seen, continuous=continuous, strange=strange)
        self._plan()

    def _plan(self) -> None:
        """When to scan next: often where nothing else tells, or where files are waited for."""
        often = self._listening.polling or self._questions.state.open is not None or self._look is None
        pause = self._settings.watch_poll_interval if often else self._settings.watch_rescan_interval
        self._next_scan = min(self._next_scan, times()[0] + pause)
        self._rescan = not often

    def _dropped(self, silent: list[str]) -> None:
        """Say it where a rescan found what no event had told."""
        if silent and self._rescan and self._listening.steady:
            first = escape_path(silent[0])
            self._said.warning("events were dropped, rescanning", found=len(silent), first=first)

    def _complain(self, found: Scan) -> None:
        for folder in found.unreadable:
            if folder not in self._unreadable:
                self._said.warning(
                    "folder cannot be read; what is in it stays as it is known", folder=escape_path(folder)
                )
        self._unreadable = set(found.unreadable)


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a task, and fail as it fails."""
    await task
