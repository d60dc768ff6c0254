"""A sheet of small pictures, ten in a row, and the WebVTT that says which is shown when."""

from __future__ import annotations

from math import ceil
from typing import Any

import av

from processors.media.stills import Shape

TILES, ACROSS = 100, 10
WIDTH, HEIGHT = 160, 284
"""Pixels that a small picture may have."""

_STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)


def interval_of(duration: float) -> float:
    """Seconds that one small picture stands for, so that there are TILES at the most."""
    return next((float(step) for step in _STEPS if duration <= step * TILES), duration / TILES)


def times_of(duration: float) -> list[float]:
    """The middle of what each small picture stands for, in seconds."""
    step = interval_of(duration)
    starts = [i * step for i in range(_count(duration))]
    return [(start + end) / 2 for start, end in zip(starts, [*starts[1:], duration], strict=True)]


class Sheet:
    """A sheet for a video of `duration` seconds."""

    def __init__(self, duration: float, shape: Shape) -> None:
        self.interval, self.duration = interval_of(duration), duration
        self.count = _count(duration)
        self.tile = shape.within(WIDTH, HEIGHT)
        self.size = Shape(self.tile.width * min(self.count, ACROSS), self.tile.height * ceil(self.count / ACROSS))
        luma, chroma = self.size.width * self.size.height, self.size.width * self.size.height // 4
        self._planes = [bytearray(luma), bytearray(b"\x80" * chroma), bytearray(b"\x80" * chroma)]
        self._filled: set[int] = set()

    def put(self, number: int, frame: Any) -> None:
        """Place a `yuvj420p` frame of the size `tile`."""
        self._filled.add(number)
        x, y = self._place(number)
        for plane, half, target in zip(frame.planes, (1, 2, 2), self._planes, strict=True):
            data, line, across = bytes(plane), plane.line_size, self.tile.width // half
            for row in range(self.tile.height // half):
                at = (y // half + row) * (self.size.width // half) + x // half
                target[at : at + across] = data[row * line : row * line + across]

    def picture(self) -> Any | None:
        """The sheet as a `yuvj420p` frame, its gaps filled with what stands before them; None where half is missing."""
        if len(self._filled) * 2 < self.count:
            return None
        known = min(self._filled)
        for number in range(self.count):
            if number in self._filled:
                known = number
            else:
                self._copy(known, number)
        frame = av.VideoFrame(self.size.width, self.size.height, "yuvj420p")
        for plane, half, source in zip(frame.planes, (1, 2, 2), self._planes, strict=True):
            width = self.size.width // half
            rows = (source[at : at + width] for at in range(0, len(source), width))
            plane.update(
                b"".join(bytes(row).ljust(plane.line_size, b"\0") for row in rows).ljust(plane.buffer_size, b"\0")
            )
        return frame

    def webvtt(self, name: str) -> str:
        """Which part of the sheet `name` is shown when."""
        cues = ["WEBVTT"]
        for number in range(self.count):
            start = number * self.interval
            end = start + self.interval if number + 1 < self.count else self.duration
            x, y = self._place(number)
            area = f"{x},{y},{self.tile.width},{self.tile.height}"
            cues.append(f"{_clock(start)} --> {_clock(max(end, start + 0.001))}\n{name}#xywh={area}")
        return "\n\n".join(cues) + "\n"

    def _place(self, number: int) -> tuple[int, int]:
        return number % ACROSS * self.tile.width, number // ACROSS * self.tile.height

    def _copy(self, source: int, target: int) -> None:
        (from_x, from_y), (to_x, to_y) = self._place(source), self._place(target)
        for half, plane in zip((1, 2, 2), self._planes, strict=True):
            width, across = self.size.width // half, self.tile.width // half
            for row in range(self.tile.height // half):
                at, to = (from_y // half + row) * width + from_x // half, (to_y // half + row) * width + to_x // half
                plane[to : to + across] = plane[at : at + across]


def _count(duration: float) -> int:
    # A last moment is no picture's worth.
    return min(TILES, max(1, ceil(duration / interval_of(duration) - 0.1)))


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
