"""The media playlist of a rung: which bytes of its one file are which seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from processors.media.boxes import Box


class SegmentsError(Exception):
    """The file's fragments are not the segments that were meant."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some seconds of it."""

    offset: int
    length: int
    """Bytes."""
    seconds: float


def segments_of(boxes: Sequence[Box], keys: Sequence[float], end: float) -> tuple[int, list[Segment]]:
    """Bytes of the header, and the segments behind it.

    `keys`: seconds at which each segment's first picture is shown. `end`: when the last one's is over.
    Raises SegmentsError.
    """
    starts = [box for box in boxes if box.name == "moof"]
    if not starts or len(starts) != len(keys):
        raise SegmentsError(f"it has {len(starts)} fragments where {len(keys)} were meant")
    last = boxes[-1]
    ends = [box.offset for box in starts[1:]] + [last.offset + last.length]
    times = [*keys[1:], max(end, keys[-1])]
    segments = [
        Segment(box.offset, to - box.offset, later - at)
        for box, to, at, later in zip(starts, ends, keys, times, strict=True)
    ]
    return starts[0].offset, segments


def playlist(header: int, segments: Sequence[Segment], name: str) -> str:
    """What a player reads. `name`: of the media file, as the playlist's reader finds it."""
    longest = max(1, math.ceil(max(segment.seconds for segment in segments)))
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{longest}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{name}",BYTERANGE="{header}@0"',
    ]
    for segment in segments:
        lines += [f"#EXTINF:{segment.seconds:.6f},", f"#EXT-X-BYTERANGE:{segment.length}@{segment.offset}", name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def peak_bit_rate(segments: Sequence[Segment]) -> int:
    """The most bits a second that a segment takes. The last one may be short: it counts with the one before."""
    if len(segments) == 1:
        return _rate(segments)
    return max(*(_rate([segment]) for segment in segments[:-1]), _rate(segments[-2:]))


def _rate(segments: Sequence[Segment]) -> int:
    seconds = sum(segment.seconds for segment in segments)
    return round(8 * sum(segment.length for segment in segments) / max(seconds, 0.04))
