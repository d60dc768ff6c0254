"""How far a download is, over all its files: told at most twice a second. In the child."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from processors.children.answering import Tell
from processors.fetching.failures import FailedError
from processors.fetching.printable import number, whole

INTERVAL = 0.5
"""Seconds."""


class Meter:
    """Watches the files of one download come in."""

    def __init__(self, tell: Tell, largest: int, parts: Sequence[str], sizes: Sequence[int | None]) -> None:
        """`parts`, `sizes`: what comes, in this order, and the bytes of each as far as they are known.

        `largest`: bytes that one file may have.
        """
        self._tell, self._largest, self._parts = tell, largest, parts
        self._sizes: list[int | None] = list(sizes)
        self._had = [0] * len(parts)
        self._number = 0
        self._told_at = -INTERVAL

    def begin(self, number: int) -> None:
        """The how-manieth file comes now."""
        self._number = number

    def hook(self, status: dict[str, Any]) -> None:
        """What yt-dlp calls for each block. Raises FailedError where it is too much."""
        had = whole(status.get("downloaded_bytes"))
        total = whole(status.get("total_bytes"))
        if max(had or 0, total or 0) > self._largest:
            told = f"{max(had or 0, total or 0)} bytes" if total else f"more than {self._largest} bytes"
            raise FailedError("too_large", f"it has {told}, and {self._largest} are allowed")
        if had is not None:
            self._had[self._number] = had
        guess = total or whole(status.get("total_bytes_estimate"))
        if guess:
            self._sizes[self._number] = max(guess, self._had[self._number])
        now = time.monotonic()
        if now - self._told_at < INTERVAL:
            return
        self._told_at = now
        speed = number(status.get("speed"))
        self._tell({"received": self._received(speed, number(status.get("eta")))})

    def done(self, number: int, size: int) -> None:
        """A file is there."""
        self._had[number] = self._sizes[number] = size

    def _received(self, speed: float | None, eta: float | None) -> dict[str, Any]:
        at = self._number
        rest = self._rest()
        if rest is not None and speed:
            eta = rest / speed
        return {
            "part": self._parts[at],
            "number": at,
            "parts": len(self._parts),
            "bytes": self._had[at],
            "total": self._sizes[at],
            "speed": speed,
            "eta": eta,
            "percent": self._percent(),
        }

    def _rest(self) -> int | None:
        if any(size is None for size in self._sizes):
            return None
        return max(0, sum(size or 0 for size in self._sizes) - sum(self._had))

    def _percent(self) -> float | None:
        """Weighed by size; where a size is not known, each file is worth the same."""
        at = self._number
        if all(self._sizes):
            whole_size = sum(size or 0 for size in self._sizes)
            return min(100.0, round(100 * sum(self._had) / whole_size, 2))
        if not self._sizes[at]:
            return None
        return min(100.0, round(100 * (at + self._had[at] / (self._sizes[at] or 1)) / len(self._parts), 2))
