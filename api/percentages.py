"""How far work is: the newest percentages that were heard of, and how a task is shown with them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from streams.media import Status, TaskState
from streams.progress import Progress

KEPT = 5000
"""Pieces of work that are remembered."""

RECENT = 15.0
"""Seconds for which a percentage says that work is going on."""

LATE = 2.0
"""Seconds by which word of how far it was may come behind word of its end."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A task as people see it now."""

    status: Status
    percent: float
    """0 to 100."""
    message: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What was last heard of a piece of work."""

    percent: float
    message: str
    at: float
    """By the clock, seconds since the epoch."""
    details: Mapping[str, Any]


class Percentages:
    """The newest percentage of each piece of work. One for an application."""

    def __init__(self) -> None:
        self._heard: OrderedDict[tuple[str, str], Heard] = OrderedDict()

    def note(self, progress: Progress) -> None:
        """Remember how far a piece of work is."""
        key = (progress.video, progress.task)
        percent = round(min(100.0, max(0.0, float(progress.percent))), 1)
        self._heard[key] = Heard(percent, progress.message, time.time(), progress.details or {})
        self._heard.move_to_end(key)
        if len(self._heard) > KEPT:
            self._heard.popitem(last=False)

    def heard(self, video: str, task: str, since: datetime) -> Heard | None:
        """What was heard of a piece of work since then, or a moment ago."""
        found = self._heard.get((video, task))
        return found if found is not None and found.at >= min(since.timestamp(), time.time() - RECENT) else None

    def shown(self, video: str, state: TaskState) -> Shown:
        """A task with what was heard of it since it came to stand so.

        Work that is taken up again after a failure, or by another worker, is not told by an event: what
        moves is being done, whatever stood there.
        """
        if state.status == "completed":
            return Shown("completed", 100.0, state.message)
        heard, since = self._heard.get((video, state.task)), state.at.timestamp()
        if heard is None or heard.at < since:
            return Shown(state.status, 0.0, state.message)
        if state.status == "processing":
            return Shown("processing", heard.percent, heard.message or state.message)
        if heard.at > since + LATE and time.time() - heard.at < RECENT:
            return Shown("processing", heard.percent, heard.message)
        return Shown(state.status, heard.percent if state.status == "failed" else 0.0, state.message)


PERCENTAGES = web.AppKey("percentages", Percentages)
