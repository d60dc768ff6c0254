"""The way of the pictures: decoded, filtered and encoded, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType

from processors.media.crew import Channel
from processors.media.damage import Damage
from processors.media.filtering import PictureFilter
from processors.media.opening import MAX_PIXELS, words_of
from processors.media.planning import Plan

FRAME_BYTES = 24 * 2**20
"""Bytes of pictures between two threads."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was sent to the file."""

    frames: int
    duration: float
    """Seconds from the first picture's appearance to the last one's end."""
    step: float
    """Seconds of the last picture."""
    end: float
    """Seconds from 0 at which it is over."""
    keys: tuple[Fraction, ...]
    """Seconds at which segments begin."""
    filters: Mapping[str, list[str]]
    """What `picture` and `sound` went through."""


class EncoderError(Exception):
    """This encoder cannot make it; another one may."""


class PictureError(Exception):
    """No encoder will make it."""


def decode(packets: Channel[Any], frames: Channel[Any], stream: Any, damage: Damage) -> None:
    """Everything that decodes; what does not is counted."""
    context = stream.codec_context
    time_base = stream.time_base
    for packet in packets:
        at = None if packet.pts is None else float(packet.pts * time_base)
        for frame in _decoded(context, packet, damage, at):
            frame.time_base = time_base
            frames.put(frame, _bytes_of(frame))
    for frame in _decoded(context, None, damage, None):
        frame.time_base = time_base
        frames.put(frame, _bytes_of(frame))


def prepare(context: Any, threads: int) -> None:
    """Before a decoder is used."""
    context.thread_type = "AUTO"
    context.thread_count = threads
    context.options = {"max_pixels": str(MAX_PIXELS)}


def filter_all(frames: Channel[Any], filtered: Channel[Any], filters: PictureFilter) -> None:
    """Each goes through the filters. Raises PictureError."""
    try:
        for frame in frames:
            for one in filters.push(frame):
                filtered.put(one, _bytes_of(one))
        for one in filters.flush():
            filtered.put(one, _bytes_of(one))
    except (av.FFmpegError, ValueError) as error:
        _raise_memory(error)
        raise PictureError(f"the picture cannot be filtered: {words_of(error)}") from error


class PictureEncoder:
    """Gives each picture its time, counts them, and encodes them."""

    def __init__(self, stream: Any, plan: Plan) -> None:
        self._stream, self._plan = stream, plan
        self._next_key = Fraction(0)
        self._step = max(1, round(1 / (plan.picture.frame_rate or 25) / plan.time_base))
        self._frames = 0
        # When the first and the last one are shown, and how long the last one is, in the plan's time base.
        self._first: int | None = None
        self._last = 0
        self._length = self._step
        self._keys: list[Fraction] = []

    def written(self, used: Mapping[str, list[str]]) -> Written:
        """What was sent."""
        base = self._plan.time_base
        length = (self._last - (self._first or 0) + self._length) * base
        end = (self._last + self._length) * base
        return Written(self._frames, float(length), float(self._length * base), float(end), tuple(self._keys), used)

    def run(self, filtered: Channel[Any], out: Channel[Any]) -> None:
        """Encode all of them. Raises EncoderError."""
        try:
            for frame in filtered:
                self._time(frame)
                for packet in self._stream.encode(frame):
                    out.put(packet, packet.size)
            for packet in self._stream.encode(None):
                out.put(packet, packet.size)
        except (av.FFmpegError, ValueError) as error:
            _raise_memory(error)
            raise EncoderError(words_of(error)) from error

    def _time(self, frame: Any) -> None:
        base = self._plan.time_base
        length = round(frame.duration * frame.time_base / base) if frame.duration else 0
        at = self._moment(frame)
        frame.pts, frame.time_base, frame.dts = at, base, None
        # What kind of picture it was in the source is of no interest to the encoder.
        frame.pict_type = PictureType.NONE
        if self._plan.segment is not None and at * base >= self._next_key:
            frame.pict_type = PictureType.I
            self._keys.append(at * base)
            self._next_key = (at * base // Fraction(self._plan.segment) + 1) * Fraction(self._plan.segment)
        if self._first is None:
            self._first = at
        elif at > self._last:
            self._step = at - self._last
        self._last, self._length = at, length or self._step
        frame.duration = self._length
        self._frames += 1

    def _moment(self, frame: Any) -> int:
        """When it is shown: never before the one before it, for nothing may be lost."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            return 0 if self._first is None else self._last + self._step
        at: int = round((stamp * frame.time_base - self._plan.start) / self._plan.time_base)
        earliest = 0 if self._first is None else self._last + 1
        return max(at, earliest)


def _decoded(context: Any, packet: Any, damage: Damage, at: float | None) -> Iterator[Any]:
    try:
        frames = context.decode(packet)
    except av.error.EOFError:
        return
    except (av.FFmpegError, ValueError) as error:
        _raise_memory(error)
        damage.lost("picture", at)
        return
    for frame in frames:
        if frame.is_corrupt:
            damage.marred(at)
        yield frame


def _bytes_of(frame: Any) -> int:
    # Not by its planes: asking for them ties a knot that keeps the frame until Python looks for knots.
    bits: int = frame.width * frame.height * frame.format.padded_bits_per_pixel
    return bits // 8


def _raise_memory(error: Exception) -> None:
    if isinstance(error, MemoryError):
        raise MemoryError(str(error)) from error
