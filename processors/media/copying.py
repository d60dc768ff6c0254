"""The way of what is taken as it is: packets keep their content, and begin at 0."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from processors.media.damage import Damage
from processors.media.pictures import Written

MAX_OVERLAP = 1
"""Seconds by which packets may go back in time."""


class MuxError(Exception):
    """What was encoded, or taken as it is, does not fit into the container."""


class CopiedStream:
    """One stream, packet by packet. Reckons in the stream's own time, for there are many packets."""

    def __init__(self, source: Any, target: Any, start: Fraction, rate: Fraction | None, damage: Damage) -> None:
        self._target, self._damage = target, damage
        self._base = Fraction(source.time_base)
        self._seconds = float(self._base)
        self._shift = round(start / self._base)
        self._is_picture = source.type == "video"
        self._reordered = source.codec_context.reorder_depth if self._is_picture else 0
        self._step = max(1, round(1 / (rate or 25) / self._base))
        self._undated = self._frames = 0
        self._first_seen: int | None = None
        # Of what was sent, in ticks.
        self._dts: int | None = None
        self._first: int | None = None
        self._end = 0

    def move(self, packet: Any) -> float:
        """A packet of the source becomes one of the target's; the second at which it is shown. Raises MuxError."""
        pts, dts = packet.pts, packet.dts
        if pts is None:
            raise MuxError("it does not say when each packet is shown")
        if packet.is_corrupt:
            self._damage.marred(pts * self._seconds)
        length = packet.duration
        if length:
            self._step = length
        if dts is None:
            dts = self._dated(pts)
        pts, dts = pts - self._shift, dts - self._shift
        if self._dts is not None and dts <= self._dts:
            # Recordings that were joined overlap a little where they meet.
            if (self._dts - dts) * self._seconds > MAX_OVERLAP:
                raise MuxError("its time stamps go back")
            dts = self._dts + 1
        self._dts = dts
        pts = max(pts, dts)
        packet.pts, packet.dts, packet.stream = pts, dts, self._target
        self._first = pts if self._first is None else min(self._first, pts)
        self._end = max(self._end, pts + self._step)
        self._frames += 1
        at: float = pts * self._seconds
        return at

    def written(self, used: Mapping[str, list[str]]) -> Written:
        """What was sent."""
        length = (self._end - (self._first or 0)) * self._seconds
        return Written(self._frames, length, self._step * self._seconds, self._end * self._seconds, (), used)

    def _dated(self, pts: int) -> int:
        """Matroska does not say when a packet is decoded, and FFmpeg works it out only behind the first ones."""
        if not self._is_picture:
            return pts
        if self._first_seen is None:
            self._first_seen = pts
        self._undated += 1
        return self._first_seen - (self._reordered - self._undated + 1) * self._step
