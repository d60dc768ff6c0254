"""Finds the pictures that are shown at given times of a video. Only child processes import this: see `child`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import av

from processors.media.decoding import pictures, seconds_of

THROUGH = 2**30
"""Pixels of a video that is decoded from end to end; in a longer one the nearest keyframes have to do."""

PACKETS = 500
"""Packets after a seek among which there must be a keyframe."""


def pictures_at(
    container: Any, stream: Any, duration: float, times: Sequence[float], deadline: float
) -> Iterator[tuple[int, Any]]:
    """The number of a time and the frame that is shown about then, for as many of the times as decode.

    The stream is prepared. `times` rise, in seconds from the start. Ends at `deadline` (monotonic). A short
    video is decoded once; of a long one the keyframes before the times are, so that it takes about as long.
    """
    rate = float(stream.average_rate or 25)
    context = stream.codec_context
    if duration * rate * context.width * context.height <= THROUGH:
        return _through(container, stream, times, rate, deadline)
    return _by_keyframes(container, stream, times, deadline)


def _through(
    container: Any, stream: Any, times: Sequence[float], rate: float, deadline: float
) -> Iterator[tuple[int, Any]]:
    number, last, at = 0, None, 0.0
    with closing(pictures(container, stream)) as frames:
        for count, frame in enumerate(frames):
            said = seconds_of(frame, stream)
            at = count / rate if said is None else said
            while number < len(times) and times[number] <= at:
                # One that comes much later is not yet shown then.
                yield number, frame if last is None or at - times[number] < 1 / rate else last
                number += 1
            last = frame
            if number == len(times) or time.monotonic() > deadline:
                return
    while last is not None and number < len(times) and times[number] - 1 / rate <= at:
        yield number, last  # it is shown a little longer
        number += 1


def _by_keyframes(container: Any, stream: Any, times: Sequence[float], deadline: float) -> Iterator[tuple[int, Any]]:
    for number, at in enumerate(times):
        if time.monotonic() > deadline:
            return
        frame = _keyframe(container, stream, at)
        if frame is not None:
            yield number, frame


def _keyframe(container: Any, stream: Any, at: float) -> Any | None:
    """The keyframe before a time; None where it cannot be found."""
    try:
        container.seek(int(at / stream.time_base) + (stream.start_time or 0), stream=stream)
        with closing(container.demux(stream)) as packets:
            for _, packet in zip(range(PACKETS), packets, strict=False):
                if not packet.is_keyframe:
                    continue
                # Nothing follows: the decoder need not wait for what might be shown before it.
                frames = packet.decode() or stream.codec_context.decode(None)
                return frames[0] if frames else None
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OverflowError):
        pass
    return None
