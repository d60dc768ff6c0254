"""Keeps the watcher going: starts it, restarts it, or leaves a root to polling and says why."""

from __future__ import annotations

import asyncio
import os

import structlog

from processors.watching.mounts import more_watches, why_polling
from processors.watching.noticing import Hearer, notice
from processors.watching.scanning import RootGoneError, RootLook, survey
from processors.watching.settling import times
from processors.watching.threads import Threads
from streams.paths import escape_path
from streams.settings import Settings

LONGEST = 5.0
"""Seconds between two starts of a watcher that keeps failing."""

CALM = 60.0
"""Seconds of good work after which a failure counts as the first one."""

_log = structlog.get_logger(__name__)


class Listening:
    """The watcher of one root."""

    def __init__(self, settings: Settings, root: str, threads: Threads, hearer: Hearer) -> None:
        self._settings, self._root, self._threads = settings, root, threads
        self._hearer = hearer
        self._said = _log.bind(root=escape_path(root))
        self._look: RootLook | None = None
        self._other = asyncio.Event()
        self._pause = 0.0
        self.links: list[tuple[str, str]] = []
        """Links in the root to folders in it: the watcher tells of either path, not of both."""
        self.polling = False
        """Nothing tells of changes: the root must be scanned often."""
        self.steady = False
        """Events have been coming without a break since the last scan was asked for."""

    def told(self, look: RootLook) -> bool:
        """Which folder stands at the root now; True where that is another than before.

        A watcher holds on to the folder it began with, so it begins anew then.
        """
        if look == self._look:
            return False
        first, self._look = self._look is None, look
        if not first:
            self._other.set()
        return not first

    def lost(self) -> None:
        """The root is not there: begin anew when it is back."""
        self._look = None
        self._other.set()

    def twins(self, relative: str) -> list[str]:
        """The other paths of something that a link gives a second one."""
        found = []
        for link, target in self.links:
            for one, other in ((link, target), (target, link)):
                if relative.startswith(one + os.sep):
                    found.append(other + relative.removeprefix(one))
        return found

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            self._other.clear()
            self.steady = False
            try:
                found = await self._threads.run(survey, self._root)
            except RootGoneError:
                await asyncio.sleep(1.0)
                continue
            reason = await self._threads.run(why_polling, self._settings, self._root, found.folders, found.strays)
            self.links = found.links
            await (self._poll(reason) if reason else self._watch(found.folders))

    async def _poll(self, reason: str) -> None:
        if not self.polling:
            self._said.warning("polling instead of watching", reason=reason, every=self._settings.watch_poll_interval)
        self.polling = True
        self._hearer.ready()
        await self._other.wait()

    async def _watch(self, folders: int) -> None:
        self.polling = False
        began, _ = times()
        watcher = asyncio.create_task(notice(self._root, self._hearer, self._ready))
        other = asyncio.create_task(self._other.wait())
        try:
            await asyncio.wait({watcher, other}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watcher, other):
                task.cancel()
            await asyncio.gather(watcher, other, return_exceptions=True)
        error = None if watcher.cancelled() else watcher.exception()
        if isinstance(error, PermissionError):
            await self._poll(f"the watcher may not read all of it ({error}): change that to be faster")
        elif isinstance(error, OSError | RuntimeError) and _exhausted(error):
            await self._poll(f"inotify has too few watches for {folders} folders: {more_watches(folders)}")
        elif isinstance(error, OSError | RuntimeError):
            await self._recover(began, error)
        elif error is not None:
            raise error

    async def _recover(self, began: float, error: BaseException) -> None:
        """A file name that is not UTF-8 ends watchfiles; a scan finds that file all the same."""
        self._said.debug("watcher failed, starting it again", error=str(error))
        now, _ = times()
        self._pause = 0.05 if now - began > CALM else min(LONGEST, max(0.05, self._pause * 2))
        self._hearer.ready()
        await asyncio.sleep(self._pause)

    def _ready(self) -> None:
        self.steady = True
        self._hearer.ready()


def _exhausted(error: Exception) -> bool:
    """Whether there are no inotify watches or instances left: watchfiles tells in words only."""
    return any(words in str(error) for words in ("watch limit reached", "os error 24", "os error 28"))
