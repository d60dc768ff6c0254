"""Tells how far a rendition is, twice a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVERY = 0.5
"""Seconds between two tellings."""


class Progress:
    """Counts pictures that are done. For one thread."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], expected: int | None, duration: float | None) -> None:
        self._tell, self._expected, self._duration = tell, expected, duration
        self._next = time.monotonic() + EVERY
        self._at = 0.0
        self.frames = 0

    def picture(self, at: float) -> None:
        """One more is done, that is shown at so many seconds."""
        self.frames += 1
        self._at = max(self._at, at)
        self.moved()

    def moved(self) -> None:
        """Something was done; tell it if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY
            self._tell({"advanced": {"frames": self.frames, "expected": self._expected, "percent": self._percent()}})

    def _percent(self) -> float | None:
        """What the header says of the end may be a lie: never more than 100."""
        if self._duration:
            share = self._at / self._duration
        elif self._expected:
            share = self.frames / self._expected
        else:
            return None
        return round(min(100.0, max(0.0, 100 * share)), 1)
