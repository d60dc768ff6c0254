"""What of a source was lost, counted while it is read, and told in words."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Damage:
    """Counts what does not decode. Threads may share it."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._told = list(known)
        self._lost: dict[str, tuple[int, float | None]] = {}
        self._marred: tuple[int, float | None] = (0, None)

    def lost(self, what: str, at: float | None) -> None:
        """One more packet of `what` (the picture, the sound) did not decode. `at`: seconds."""
        with self._lock:
            count, first = self._lost.get(what, (0, at))
            self._lost[what] = (count + 1, first)

    def marred(self, at: float | None) -> None:
        """One more picture decoded, but not wholly."""
        with self._lock:
            self._marred = (self._marred[0] + 1, self._marred[1] if self._marred[0] else at)

    def tell(self, what: str) -> None:
        """Something else that was found, in words; once is enough."""
        with self._lock:
            if what not in self._told:
                self._told.append(what)

    def in_words(self) -> str | None:
        """All of it; None where there was none."""
        parts = list(self._told)
        for what, (count, first) in self._lost.items():
            packets = "1 packet" if count == 1 else f"{count} packets"
            parts.append(f"{packets} of the {what} did not decode{_where(count, first)}")
        count, first = self._marred
        if count:
            parts.append(f"{'1 picture is' if count == 1 else f'{count} pictures are'} marred{_where(count, first)}")
        return "; ".join(parts) or None


def _where(count: int, first: float | None) -> str:
    return "" if first is None else f", {'' if count == 1 else 'first '}at {max(0.0, first):.1f} s"
