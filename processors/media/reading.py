"""Reads what a file is with PyAV. Only child processes import this: see `child`."""

from __future__ import annotations

from typing import Any

import av
from av.stream import Disposition

from processors.media.opening import DECLARE_ALL, RefusedError, opened, words_of


def read(path: bytes) -> dict[str, Any]:
    """The fields of `ports.Probed`, or `kind` and `reason` of `ports.ProbeFailure`."""
    try:
        with opened(path) as source, source.demuxed() as container:
            try:
                return _describe(container, source.size, source.missing)
            except MemoryError:
                return _failure("unreadable", "it asks for more memory than a video may need")
            except (av.FFmpegError, ValueError, OSError) as error:
                return _failure("unreadable", source.missing or f"FFmpeg cannot read it: {words_of(error)}")
    except RefusedError as refused:
        return _failure(refused.kind, refused.reason)


def _describe(container: Any, size: int, missing: str | None) -> dict[str, Any]:
    name = container.format.name
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    audio = next(iter(container.streams.audio), None)
    if not videos:
        if missing is None and audio is not None and DECLARE_ALL & set(name.split(",")):
            return _failure("no_video", "it holds sound but no picture")
        return _failure("unreadable", missing or "no video stream was found in it")
    # A codec that FFmpeg does not know has no context.
    video = next((s for s in videos if s.codec_context is not None), None)
    if video is None:
        return _failure("unreadable", missing or "its video is in a codec that FFmpeg does not know")
    context = video.codec_context
    if not context.width or not context.height:
        missing = missing or "the size of its picture cannot be told"
    return {
        "container": name,
        "duration": _duration(container, video),
        "width": context.width or 0,
        "height": context.height or 0,
        "video_codec": context.name,
        "audio_codec": audio.codec_context.name if audio is not None and audio.codec_context is not None else None,
        "frame_rate": float(video.average_rate) if video.average_rate else None,
        "bit_rate": int(container.bit_rate) or None,
        "size": size,
        "damaged": missing,
    }


def _duration(container: Any, video: Any) -> float | None:
    if container.duration and container.duration > 0:
        return float(container.duration / av.time_base)
    if video.duration and video.time_base and video.duration > 0:
        return float(video.duration * video.time_base)
    return None


def _failure(kind: str, reason: str) -> dict[str, Any]:
    return {"kind": kind, "reason": reason}
