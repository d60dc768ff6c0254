"""Decodes single pictures of a video that may be damaged. Only child processes import this: see `child`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import av
from av.stream import Disposition

from processors.media.opening import MAX_PIXELS

PATIENCE = 200
"""Packets without a picture after which there is none to be expected."""

BYTES = 64 * 2**20
"""Bytes of such packets, likewise."""


def video_stream(container: Any) -> Any | None:
    """The first stream of moving pictures in a codec that FFmpeg knows; None where there is none."""
    return next(
        (
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None
        ),
        None,
    )


def prepare(stream: Any, threads: int = 1) -> None:
    """Before its first packet: bound what the decoder takes, and let it begin with pictures at once."""
    context = stream.codec_context
    context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}
    # Threads by frame would hold back as many pictures as there are threads.
    context.thread_type = "SLICE"
    context.thread_count = threads


def pictures(container: Any, stream: Any) -> Generator[Any, None, None]:
    """Frames from where the container stands; what does not decode is left out.

    Ends with the file, or where nothing decodes any more. Raises MemoryError.
    """
    silent = size = 0
    packets = container.demux(stream)
    while silent < PATIENCE and size < BYTES:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            silent += 1
            continue
        silent, size = silent + 1, size + packet.size
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            continue
        for frame in frames:
            silent = size = 0
            yield frame


def seconds_of(frame: Any, stream: Any) -> float | None:
    """When a frame is shown, counted from the stream's start; None where it does not say."""
    if frame.pts is None or frame.time_base is None:
        return None
    start = (stream.start_time or 0) * stream.time_base
    return float(frame.pts * frame.time_base - start)


def turn_of(frame: Any) -> int:
    """By how many degrees a player turns the picture clockwise: 0, 90, 180 or 270."""
    try:
        return int(round(-frame.rotation / 90) % 4 * 90)
    except (ValueError, OverflowError):
        return 0


def duration_of(container: Any, stream: Any) -> float | None:
    """Seconds; None where neither the container nor the stream says it."""
    if container.duration and container.duration > 0:
        return float(container.duration / av.time_base)
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    return None
