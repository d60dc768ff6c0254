"""Reads a source's packets, as far as it can be read, and hands them to whoever works on their stream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
from av.stream import Discard

from processors.media.crew import Channel
from processors.media.damage import Damage
from processors.media.opening import Source

MAX_ERRORS = 50
"""Errors in a row after which there is no more to be read."""

JUMP = 10
"""Seconds by which a broadcast's clock may go wrong before it counts as another clock."""

_BROADCAST = frozenset({"mpegts", "mpeg"})


def packets_of(container: Any, streams: list[Any], source: Source, damage: Damage) -> Iterator[Any]:
    """Every packet of these streams, as far as they can be read."""
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all
    clock = _Clock() if container.format.name in _BROADCAST else None
    for packet in _packets(container, streams, damage):
        if clock is not None:
            clock.correct(packet)
        yield packet
    if os.fstat(source.fd).st_size < source.size:
        damage.tell("it became shorter while it was read")


def hand_on(packets: Iterator[Any], routes: Mapping[int, Channel[Any]]) -> None:
    """Give each packet to whoever works on its stream."""
    for packet in packets:
        routes[packet.stream.index].put(packet, packet.size)


def _packets(container: Any, streams: list[Any], damage: Damage) -> Iterator[Any]:
    errors = 0
    last: Any = None
    while True:
        try:
            for packet in container.demux(streams):
                # Without content: the end, or a picture that repeats the one before.
                if not packet.size:
                    continue
                errors = 0
                last = packet
                yield packet
            return
        except MemoryError:
            raise
        except av.FFmpegError:
            errors += 1
            where = "" if last is None or last.dts is None else f" after {max(0.0, _seconds(last)):.1f} s"
            damage.tell(f"it cannot be read{where}")
            if errors >= MAX_ERRORS:
                return


def _seconds(packet: Any) -> float:
    return float(packet.dts * packet.time_base)


class _Clock:
    """Broadcasts that were joined begin to count anew: their times are made to go on."""

    def __init__(self) -> None:
        self._offset = Fraction(0)
        self._last: Fraction | None = None

    def correct(self, packet: Any) -> None:
        base = packet.time_base
        if packet.dts is None:
            return
        at = packet.dts * base + self._offset
        if self._last is not None and abs(at - self._last) > JUMP:
            self._offset += self._last - at
            at = self._last
        self._last = at
        shift = round(self._offset / base)
        if shift:
            packet.dts += shift
            if packet.pts is not None:
                packet.pts += shift
