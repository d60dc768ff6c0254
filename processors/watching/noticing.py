"""Hears of changes below a root through watchfiles (inotify).

What watchfiles does not do: it tells nothing when a writer closes a file, drops events without a
word when the kernel's queue overflows, and stops for good at a file name that is not UTF-8. So it
only says *where to look*; the rescan that follows every (re)start, and the one that comes round now
and then, make good what it missed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Protocol

import structlog
from watchfiles import Change, awatch

from streams.paths import escape_path

STEP_MS = 10
"""How often watchfiles looks for events: its default of 50, debounced over 1,600, is too slow."""

DEBOUNCE_MS = 50
"""How long it may gather events while more keep coming."""

TURN_MS = 100
"""How soon it says that it is ready, and how long a stop may take."""

FLOOD = 8192
"""So many changes at once are half of what the kernel's queue holds: some may be lost."""

_log = structlog.get_logger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it would log each batch


class Hearer(Protocol):
    """Who is told of changes. Paths are relative to the root."""

    def appeared(self, relative: str) -> None:
        """Something is new: a file, or a folder with all that is in it."""

    def changed(self, relative: str) -> None:
        """Something was written to."""

    def went(self, relative: str) -> None:
        """Something is gone: a file, or a folder with all that was in it."""

    def lost(self) -> None:
        """The root itself was deleted."""

    def ready(self) -> None:
        """Events come from now on, or some were lost, or none will ever come: scan."""


async def notice(root: str, hearer: Hearer, ready: Callable[[], None]) -> None:
    """Watch until the watcher ends or fails (OSError, RuntimeError); `ready` is called when a scan is due.

    Whoever calls this calls it again.
    """
    tell = {Change.added: hearer.appeared, Change.modified: hearer.changed, Change.deleted: hearer.went}
    prefix = root.rstrip(os.sep) + os.sep
    first = True
    # Within a group an exception arrives wrapped; what is inside is what counts.
    try:
        async for batch in awatch(
            root,
            watch_filter=None,
            step=STEP_MS,
            debounce=DEBOUNCE_MS,
            rust_timeout=TURN_MS,
            yield_on_timeout=True,
            recursive=True,
            # True would watch nothing beyond the first folder that may not be read, and say nothing.
            ignore_permission_denied=False,
        ):
            for change, path in batch:
                if path == root and change is Change.deleted:
                    hearer.lost()  # another folder at its path may well have the same inode number
                    return
                if path.startswith(prefix):
                    tell[change](path.removeprefix(prefix))
            if first or len(batch) >= FLOOD:
                if not first:
                    _log.warning("events were dropped, rescanning", root=escape_path(root), burst=len(batch))
                first = False
                ready()
    except BaseExceptionGroup as group:
        raise _innermost(group) from group


def _innermost(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        cancelled = [one for one in group.exceptions if isinstance(one, asyncio.CancelledError)]
        group = cancelled[0] if cancelled else group.exceptions[0]
    return group
