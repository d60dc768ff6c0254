"""What a part gives back, and how figures become text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Size(IntEnum):
    """How much is measured."""

    TINY = 0
    """Proves that a part runs; its figures mean nothing."""
    QUICK = 1
    FULL = 2

    def of(self, tiny: int, quick: int, full: int) -> int:
        """The number that goes with this size."""
        return (tiny, quick, full)[self]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    peer: str = "—"
    ratio: float | None = None
    """Ours divided by the peer's, in whatever unit both have."""
    target: str = "—"
    ok: bool | None = None
    """None: there is no target (or no peer to judge by), the figure is told for comparison."""

    @property
    def verdict(self) -> str:
        """`yes`, `NO`, or a dash."""
        return "—" if self.ok is None else "yes" if self.ok else "NO"

    def cells(self) -> tuple[str, ...]:
        """The columns as text."""
        ratio = "—" if self.ratio is None else f"{self.ratio:.2f} ×"
        return (self.what, self.ours, self.peer, ratio, self.target, self.verdict)


HEADINGS = ("what", "ours", "peer", "ratio", "target", "ok?")


def rate_row(what: str, ours: Sequence[float], peer: Sequence[float], unit: str, least: float | None = None) -> Row:
    """Rates of paired rounds: the median of the rounds' ratios is judged, for the load changes between rounds."""
    ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
    return Row(
        what,
        f"{statistics.median(ours):,.0f} {unit}",
        f"{statistics.median(peer):,.0f} {unit}",
        ratio,
        "—" if least is None else f"≥ {least:g} ×",
        None if least is None else ratio >= least,
    )


def in_turns(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Call each side once a round, A B A B …; what they returned, by side."""
    results: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for found, side in zip(results, sides, strict=True):
            found.append(side())
    return results


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
