"""What stands where Faust keeps offsets: nothing, and a way for acknowledgements to leave at once.

Faust commits the highest offset below which everything is acknowledged. Here each entry is
acknowledged by itself, so there is nothing to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.types import TP

Acknowledged = Callable[[TP, int], None]


class Nothing(dict[TP, None]):
    """Answers None for every partition, whatever is put in."""

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: Any) -> None:
        pass

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Forget it."""


class Acknowledging(dict[TP, "Sink"]):
    """Stands for the lists and the sets of acknowledged offsets, by partition."""

    def __init__(self, acknowledged: Acknowledged) -> None:
        super().__init__()
        self._acknowledged = acknowledged

    def __missing__(self, tp: TP) -> Sink:
        sink = self[tp] = Sink(self._acknowledged, tp)
        return sink


class Sink:
    """The list and the set of one partition: what is put in is passed on."""

    __slots__ = ("_acknowledged", "_tp")

    def __init__(self, acknowledged: Acknowledged, tp: TP) -> None:
        self._acknowledged, self._tp = acknowledged, tp

    def __contains__(self, offset: int) -> bool:
        return False

    def add(self, offset: int) -> None:
        """As a set; `append` follows."""

    def append(self, offset: int) -> None:
        """As a list."""
        self._acknowledged(self._tp, offset)
