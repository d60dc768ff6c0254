"""What becomes of a download that could not go on: put off, and for how long, or given up. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from processors.ports import FINAL_FAILURES, FetchFailure, MediaFailure
from streams.codec import Recorded
from streams.download_config import DownloadConfig
from streams.events import DownloadFailed, DownloadPostponed, DownloadRefreshed
from streams.settings import Settings

LONGEST = 3600.0
"""Seconds between two attempts."""

LONGEST_ASKED = 24 * 3600.0
"""Seconds that a server may ask us to wait."""

ROOM_AGAIN = 60.0
"""Seconds until a download that found the disk full is tried again."""

OUTAGE, LONGEST_OUTAGE = 15.0, 600.0
"""Seconds until one is tried again that something of ours kept from going on; twice as long each time."""

RECHECK = 60.0
"""Seconds until a stream is looked at again that should have begun; twice as long each time, up to LONGEST."""

INTERRUPTIONS = 500
"""How often a take may be interrupted: more is no accident."""

MAX_REASON = 1500
"""Characters."""


@dataclass(frozen=True, slots=True)
class Setback:
    """Why it does not go on."""

    kind: str
    """As in `FetchFailure`, or `interrupted`."""
    reason: str
    advice: str = ""
    retry_after: float | None = None
    begins: datetime | None = None

    @classmethod
    def of_fetching(cls, failure: FetchFailure) -> Setback:
        """What the fetcher said."""
        return cls(failure.kind, failure.reason, failure.advice, failure.retry_after, failure.begins)

    @classmethod
    def of_finishing(cls, failure: MediaFailure, *, fresh: bool) -> Setback:
        """What the studio said. `fresh`: nothing of what it worked on was left by an earlier attempt."""
        kind = _OF_STUDIO.get(failure.kind, failure.kind)
        if kind == "invalid" and not fresh:
            return cls("crashed", f"what came does not make a video, and is fetched anew: {failure.reason}")
        return cls(kind, failure.reason)


_OF_STUDIO = {
    "gone": "crashed",
    "unreadable": "invalid",
    "no_video": "invalid",
    "too_large": "invalid",
    "unencodable": "invalid",
    "disk_full": "no_space",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """An attempt, and what was before it."""

    take: int
    attempt: int
    failures: int
    """Attempts of this take that failed before."""
    history: Sequence[Recorded[Any]]
    config: DownloadConfig
    settings: Settings
    now: datetime

    def outcome(self, setback: Setback) -> DownloadPostponed | DownloadFailed:
        """What is to be said of it."""
        kind = setback.kind
        if kind in FINAL_FAILURES:
            return self._failed(setback)
        if kind == "scheduled":
            return self._scheduled(setback)
        if kind in {"interrupted", "killed"}:
            if self._streak("interrupted", at_all=True) >= INTERRUPTIONS:
                return self._failed(setback, f"It was interrupted {INTERRUPTIONS} times.")
            return self._postponed("interrupted", setback.reason, 0.0)
        if kind == "no_space":
            return self._postponed("no_space", setback.reason, ROOM_AGAIN)
        if kind in {"unavailable", "unwritable"}:
            wait = min(LONGEST_OUTAGE, OUTAGE * 2.0 ** min(self._streak("outage"), 20))
            return self._postponed("outage", setback.reason, wait)
        return self._retried(setback)

    def _retried(self, setback: Setback) -> DownloadPostponed | DownloadFailed:
        tried = self.failures + 1
        if tried >= self.settings.download_attempts:
            return self._failed(setback, f"It was tried {tried} times (SPOOLHOUSE_DOWNLOAD_ATTEMPTS).")
        wait = min(LONGEST, self.settings.download_retry * 2.0 ** min(self.failures, 30))
        wait *= random.uniform(0.8, 1.2)  # what failed together must not come back together
        if setback.retry_after is not None:
            wait = max(wait, min(LONGEST_ASKED, setback.retry_after))
        return self._postponed("retry", setback.reason, wait)

    def _scheduled(self, setback: Setback) -> DownloadPostponed | DownloadFailed:
        if not self.config.wait_for_live:
            advice = setback.advice or (
                "Set SPOOLHOUSE_DOWNLOAD_WAIT_FOR_LIVE, or wait_for_live in the configuration, and refresh it."
            )
            return self._failed(Setback("live", setback.reason, advice))
        wait = min(LONGEST, RECHECK * 2.0 ** min(self._streak("scheduled"), 20))
        if setback.begins is not None and setback.begins > self.now:
            wait = max(1.0, (setback.begins - self.now).total_seconds())
        return self._postponed("scheduled", setback.reason, wait)

    def _streak(self, kind: str, *, at_all: bool = False) -> int:
        """How often this take was put off so, without any other in between; `at_all`: whatever was between."""
        count = 0
        for recorded in reversed(self.history):
            event = recorded.event
            if isinstance(event, DownloadRefreshed):
                break
            if isinstance(event, DownloadPostponed) and event.take == self.take:
                if event.kind == kind:
                    count += 1
                elif not at_all:
                    break
        return count

    def _postponed(self, kind: str, reason: str, wait: float) -> DownloadPostponed:
        until = self.now + timedelta(seconds=wait)
        return DownloadPostponed(
            take=self.take, attempt=self.attempt, kind=kind, reason=reason[:MAX_REASON], until=until
        )

    def _failed(self, setback: Setback, more: str = "") -> DownloadFailed:
        return DownloadFailed(
            take=self.take,
            attempt=self.attempt,
            kind=setback.kind,
            reason=setback.reason[:MAX_REASON],
            advice=f"{setback.advice} {more}".strip()[:MAX_REASON],
        )
