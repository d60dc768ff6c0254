"""Reads what a file is with PyAV. Only child processes import this: see `child`."""

from __future__ import annotations

import os
import stat
from typing import Any

import av
from av.stream import Disposition

from processors.media.signatures import SNIFF, kind_of
from processors.media.wholeness import missing_part

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,asf,asf_o,ogg,mxf,gxf,yuv4mpegpipe,"
    "ivf,nut,rm,wtv,bink,smk,dv,h264,hevc,vvc,av1,obu,m4v,h263,vc1,dirac,cavsvideo,nsv,nuv,r3d,roq,amv,4xm,dhav,ty"
)
"""The demuxers that FFmpeg may use: real containers, and none that follows names to other files or hosts."""

_DECLARE_ALL = frozenset({"mov", "mp4", "matroska", "webm", "avi", "asf"})
"""Containers whose header names every stream: what is not named there does not exist."""

_OPTIONS = {
    "protocol_whitelist": "fd",
    "format_whitelist": FORMATS,
    "probesize": str(32 * 2**20),
    "analyzeduration": str(10 * 1_000_000),
    "max_streams": "256",
}


def read(path: bytes) -> dict[str, Any]:
    """The fields of `ports.Probed`, or `kind` and `reason` of `ports.ProbeFailure`."""
    try:
        # O_NONBLOCK: a FIFO must not hold us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _failure("gone", "the file is no longer there")
    except OSError as error:
        return _failure("unreadable", f"it cannot be opened: {error.strerror}")
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return _failure("unreadable", "it is not a regular file")
        if not status.st_size:
            return _failure("unreadable", "it is empty")
        return _read(fd, status.st_size)
    except OSError as error:
        return _failure("unreadable", f"it cannot be read: {error.strerror}")
    finally:
        os.close(fd)


def _read(fd: int, size: int) -> dict[str, Any]:
    kind = kind_of(os.pread(fd, SNIFF, 0), whole=size <= SNIFF)
    if kind.verdict == "other":
        return _failure("no_video", f"it is {kind.name}")
    missing = missing_part(fd, size, kind.name)
    try:
        # The path itself never gets to FFmpeg, only the open file.
        with av.open("fd:", options={**_OPTIONS, "fd": str(fd)}) as container:
            return _describe(container, size, missing)
    except MemoryError:
        return _failure("unreadable", "it asks for more memory than a video may need")
    except (av.FFmpegError, ValueError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        return _failure("unreadable", missing or f"FFmpeg cannot read it: {text}")


def _describe(container: Any, size: int, missing: str | None) -> dict[str, Any]:
    name = container.format.name
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    audio = next(iter(container.streams.audio), None)
    if not videos:
        if missing is None and audio is not None and _DECLARE_ALL & set(name.split(",")):
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
