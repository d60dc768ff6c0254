"""The files that one is made of: their clocks, their streams, and their packets in the order of time.

Only child processes import this.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av

from processors.media.containers import Container
from processors.media.copying import CopiedStream, MuxError
from processors.media.damage import Damage
from processors.media.opening import RefusedError, Source, words_of

JUMP = 30
"""Seconds by which a broadcast's clock may go on at once; more is another clock, as where an advertisement begins."""


class Input:
    """One of the files, and its clock."""

    def __init__(self, container: Any, source: Source) -> None:
        self.container, self.source = container, source
        self.start = Fraction(container.start_time or 0, av.time_base)
        if container.start_time is not None and abs(self.start) > 1 << 40:
            self.start = Fraction(0)
        self.duration = container.duration / av.time_base if container.duration and container.duration > 0 else None
        self.jumps = 0
        self._is_broadcast = "mpegts" in container.format.name
        self._offset = self._former = 0.0
        """What is added to the clock, and what was before its last jump: some packets come late."""
        self._next: dict[int, float] = {}
        """By stream: when its next packet is to be decoded, in seconds."""

    def put_right(self, packet: Any) -> None:
        """A broadcast's clock may jump, back or on: what follows goes on where it was."""
        if not self._is_broadcast or packet.dts is None:
            return
        base = float(packet.time_base)
        index, stamp = packet.stream.index, packet.dts * base
        due, offset = self._next.get(index), self._offset
        if due is not None and not _fits(stamp + offset, due):
            if _fits(stamp + self._former, due):
                offset = self._former
            else:
                self._former, self._offset = self._offset, due - stamp
                offset = self._offset
                self.jumps += 1
        if offset:
            shift = round(offset / base)
            packet.dts += shift
            if packet.pts is not None:
                packet.pts += shift
        self._next[index] = stamp + offset + float(packet.duration or 0) * base


def _fits(at: float, due: float) -> bool:
    return -1.0 < at - due < JUMP


class Taken:
    """One of the streams that are taken."""

    def __init__(self, source: Input, stream: Any) -> None:
        self.input, self.stream = source, stream
        self.packets = 0
        self.end = 0.0
        self._copied: CopiedStream | None = None

    def begin(self, output: Any, wanted: Container, damage: Damage) -> None:
        """Make its place in the file. Raises MuxError."""
        try:
            target = output.add_stream_from_template(self.stream, opaque=True)
            tag = wanted.tags.get(codec_of(self.stream))
            if tag is not None:
                target.codec_context.codec_tag = tag
        except (av.FFmpegError, ValueError, NotImplementedError) as error:
            raise MuxError(f"{codec_of(self.stream)} in {wanted.extension}: {words_of(error)}") from error
        language = self.stream.metadata.get("language")
        if language:
            target.metadata["language"] = language[:8]
        rate = self.stream.average_rate if self.stream.type == "video" else None
        self._copied = CopiedStream(self.stream, target, self.input.start, rate, damage)

    def move(self, packet: Any) -> float:
        """A packet of the source becomes one of the file's; the second at which it is shown. Raises MuxError."""
        assert self._copied is not None
        if packet.pts is None:
            packet.pts = packet.dts
        length = float((packet.duration or 0) * packet.time_base)
        at = self._copied.move(packet)
        self.packets += 1
        self.end = max(self.end, at + length)
        return at


def in_time(inputs: list[Input], wanted: Mapping[int, Mapping[int, Taken]]) -> Iterator[tuple[Input, Any]]:
    """The packets of all files, those that are decoded first before the others."""
    waiting: list[tuple[float, int, Any]] = []
    feeds = [_packets(one, [s.stream for s in wanted[id(one)].values()]) for one in inputs]

    def refill(number: int) -> None:
        packet = next(feeds[number], None)
        if packet is not None:
            stamp = packet.dts if packet.dts is not None else packet.pts
            at = 0.0 if stamp is None else float(stamp * packet.time_base - inputs[number].start)
            heapq.heappush(waiting, (at, number, packet))

    for number in range(len(inputs)):
        refill(number)
    while waiting:
        _, number, packet = heapq.heappop(waiting)
        yield inputs[number], packet
        refill(number)


def _packets(one: Input, streams: list[Any]) -> Iterator[Any]:
    packets = one.container.demux(streams)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, ValueError) as error:
            raise_memory(error)
            raise RefusedError("unreadable", f"it cannot be read to its end: {words_of(error)}") from None
        if packet.size:
            one.put_right(packet)
            yield packet


def codec_of(stream: Any) -> str:
    """FFmpeg's name of the codec, whichever decoder it has for it."""
    context = stream.codec_context
    return "unknown" if context is None else str(context.codec.canonical_name)


def raise_memory(error: Exception) -> None:
    """Let go on what is about memory: it says nothing of the file."""
    if isinstance(error, MemoryError):
        raise MemoryError(str(error)) from error
