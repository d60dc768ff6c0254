"""Reads what a file is with PyAV. Only child processes import this: see `child`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import av

from processors.media.decoding import duration_of, pictures, prepare, video_stream
from processors.media.metadata import describe
from processors.media.opening import RefusedError, Source, opened


def read(path: bytes, *, gps: bool = False) -> dict[str, Any]:
    """The fields of `ports.Probed`. `gps`: with where it was recorded. Raises RefusedError, OSError, MemoryError."""
    with opened(path) as source, source.demuxed() as container:
        return _read(source, container, gps=gps)


def _read(source: Source, container: Any, *, gps: bool) -> dict[str, Any]:
    missing = source.missing
    name = container.format.name
    source.picture_streams(container)
    audio = next(iter(container.streams.audio), None)
    # A codec that FFmpeg does not know has no context.
    video = video_stream(container)
    if video is None:
        raise RefusedError("unreadable", missing or "its video is in a codec that FFmpeg does not know")
    context = video.codec_context
    if not context.width or not context.height:
        missing = missing or "the size of its picture cannot be told, or is beyond all measure"
    return {
        "container": name,
        "duration": duration_of(container, video),
        "width": context.width or 0,
        "height": context.height or 0,
        "video_codec": context.name,
        "audio_codec": audio.codec_context.name if audio is not None and audio.codec_context is not None else None,
        "frame_rate": float(video.average_rate) if video.average_rate else None,
        "bit_rate": int(container.bit_rate) or None,
        "size": source.size,
        "damaged": missing,
        "metadata": describe(container, source.size, _first_picture(container, video), gps=gps),
    }


def _first_picture(container: Any, video: Any) -> Any | None:
    """It knows more than the headers: how it is turned, how its colours are meant. None where none decodes."""
    try:
        prepare(video)
        with closing(pictures(container, video)) as found:
            return next(found, None)
    except (av.FFmpegError, ValueError, MemoryError):
        return None
