"""The way of the sound: decoded, kept in time with the picture, filtered and encoded, in one thread for all streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any

import av

from processors.media.crew import Channel
from processors.media.damage import Damage
from processors.media.filtering import SoundFilter
from processors.media.opening import words_of
from processors.media.planning import SoundPlan

MAX_GAP = 3600
"""Seconds of silence that may lie between two sounds. More is a time stamp gone wrong."""

MAX_OVERLAP = 10
"""Seconds by which sound may go back in time; more is a time stamp gone wrong, too."""


SHORT = 3
"""Seconds of sound that the loudness filter looks ahead."""

USUAL = 1024
"""Samples in a frame, where the encoder takes any number."""


class SoundError(Exception):
    """One stream of sound cannot be converted; the rest may do without."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index, self.reason = index, reason


class SoundLane:
    """One stream of sound on its way."""

    def __init__(self, sound: SoundPlan, source: Any, target: Any, start: Fraction, damage: Damage) -> None:
        self._sound, self._source, self._target, self._damage = sound, source, target, damage
        self._filter = SoundFilter(sound, target.codec_context.frame_size or USUAL)
        self._shift = -start
        self._expected = Fraction(0)
        """Seconds at which the next sound should begin."""
        self._samples = 0

    @property
    def used(self) -> list[str]:
        """Its filters."""
        return self._filter.used

    def push(self, packet: Any) -> Iterator[Any]:
        """Packets that come out for one that goes in, None being the end. Raises SoundError."""
        try:
            for frame in self._decoded(packet):
                for part in self._timed(frame):
                    yield from self._filtered(part)
            if packet is None:
                yield from self._finish()
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise MemoryError(str(error)) from error
            reason = f"the sound ({self._sound.source.codec}) was left out: {words_of(error)}"
            raise SoundError(self._sound.source.index, reason) from error

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            found: list[Any] = self._source.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.error.EOFError:
            return []
        except (av.FFmpegError, ValueError):
            stamp = None if packet is None or packet.pts is None else float(packet.pts * self._source.time_base)
            self._damage.lost("sound", stamp)
            return []
        return [frame for frame in found if frame.samples and frame.sample_rate]

    def _timed(self, frame: Any) -> Iterator[Any]:
        """The frame, at its time from the beginning, after the silence before it."""
        rate = frame.sample_rate
        at = self._expected
        if frame.pts is not None:
            at = frame.pts * self._source.time_base + self._shift
        if not -MAX_OVERLAP < at - self._expected < MAX_GAP:
            self._shift += self._expected - at
            at = self._expected
            self._damage.tell("the sound's time stamps jump")
        while at - self._expected > 1:
            yield self._placed(_silence(frame, rate), self._expected)
            self._expected += 1
        yield self._placed(frame, at)
        self._expected = at + Fraction(frame.samples, rate)

    @staticmethod
    def _placed(frame: Any, at: Fraction) -> Any:
        frame.pts, frame.time_base = round(at * frame.sample_rate), Fraction(1, frame.sample_rate)
        return frame

    def _filtered(self, frame: Any) -> Iterator[Any]:
        begins = round(self._expected * self._sound.rate) if self._filter.used else 0
        for one in self._filter.push(frame, begins):
            yield from self._encoded(one)

    def _encoded(self, frame: Any) -> list[Any]:
        # Gaps were filled: what comes out is without one, and its time is how much came before.
        frame.pts, frame.time_base = self._samples, Fraction(1, self._sound.rate)
        self._samples += frame.samples
        packets: list[Any] = self._target.encode(frame)
        return packets

    def _finish(self) -> Iterator[Any]:
        for one in self._filter.flush():
            # The loudness of utter silence is −∞: of one so short that the filter has it whole, it makes what is no
            # number, and no encoder takes that. (Only here: asking for planes keeps a frame for longer than it is needed.)
            short = self._sound.loudness and self._samples < SHORT * self._sound.rate
            if short and not all(isfinite(sum(memoryview(part).cast("B").cast("f"))) for part in one.planes):
                _silent(one)
            yield from self._encoded(one)
        if not self._samples:
            # A track without anything in it is one that players stumble over.
            self._damage.tell(f"nothing of the sound ({self._sound.source.codec}) decodes")
            frame = av.AudioFrame(format="fltp", layout=self._sound.layout, samples=1024)
            frame.sample_rate = self._sound.rate
            yield from self._encoded(_silent(frame))
        yield from self._target.encode(None)


def run(packets: Channel[Any], out: Channel[Any], lanes: Mapping[int, SoundLane]) -> None:
    """Take packets of all streams through their lanes. Raises SoundError."""
    for packet in packets:
        for made in lanes[packet.stream.index].push(packet):
            out.put(made, made.size)
    for lane in lanes.values():
        for made in lane.push(None):
            out.put(made, made.size)


def _silence(like: Any, samples: int) -> Any:
    frame = av.AudioFrame(format=like.format.name, layout=like.layout.name, samples=samples)
    frame.sample_rate = like.sample_rate
    return _silent(frame)


def _silent(frame: Any) -> Any:
    middle = b"\x80" if frame.format.name.startswith("u8") else b"\0"
    for plane in frame.planes:
        plane.update(middle * plane.buffer_size)
    return frame
