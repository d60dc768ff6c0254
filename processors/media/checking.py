"""Looks at a finished rendition with fresh eyes, before anyone is told that it is there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av

from processors.media.boxes import Box, boxes_of
from processors.media.opening import words_of
from processors.media.pictures import Written
from processors.media.planning import Plan

_OPTIONS = {"protocol_whitelist": "fd", "probesize": "65536", "analyzeduration": "1", "fpsprobesize": "0"}
"""We know what it should be: no need to read ahead for what its header does not say."""

_VP9_LEVELS = (
    (36864, 10), (73728, 11), (122880, 20), (245760, 21), (552960, 30), (983040, 31),
    (2228224, 40), (8912896, 50), (35651584, 60),
)  # fmt: skip
"""Pixels of a picture → level; the lowest that has as many."""


class NotAsMeantError(Exception):
    """The file is not what was sent to it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the file says of itself."""

    duration: float | None
    width: int
    height: int
    frames: int
    video_codec: str
    audio_codec: str | None
    codecs: str
    """RFC 6381."""
    boxes: tuple[Box, ...]
    """Of an MP4 file."""
    x264: str | None
    """The version of x264 that encoded it, as its first picture says."""


def check(fd: int, plan: Plan, written: Written, container_name: str) -> Checked:
    """Read a finished file. Raises NotAsMeantError with both numbers where it is not as it was meant."""
    boxes = tuple(boxes_of(fd)) if container_name == "mp4" else ()
    if container_name == "mp4":
        check_boxes(fd, boxes)
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        with av.open("fd:", options={**_OPTIONS, "fd": str(fd)}, metadata_errors="replace") as container:
            return _checked(container, plan, written, boxes, _x264(fd, boxes))
    except (av.FFmpegError, ValueError) as error:
        raise NotAsMeantError(f"it cannot be read again: {words_of(error)}") from error


def check_boxes(fd: int, boxes: Sequence[Box]) -> None:
    """Raise NotAsMeantError unless an MP4 file is whole and has its index in front."""
    names = [box.name for box in boxes]
    if "moov" not in names or "mdat" not in names or names.index("moov") > names.index("mdat"):
        raise NotAsMeantError(f"its index is not in front: {' '.join(names[:8])}")
    end, size = boxes[-1].offset + boxes[-1].length, os.fstat(fd).st_size
    if end != size:
        raise NotAsMeantError(f"its boxes end at {end}, the file at {size}")


def _x264(fd: int, boxes: Sequence[Box]) -> str | None:
    data = next((os.pread(fd, 1 << 16, box.offset) for box in boxes if box.name == "mdat"), b"")
    found = re.search(rb"x264 - core (\d+(?: r\w+)?(?: \w{7})?)", data)
    return found[1].decode("ascii") if found else None


def _checked(container: Any, plan: Plan, written: Written, boxes: tuple[Box, ...], x264: str | None) -> Checked:
    if not container.streams.video:
        raise NotAsMeantError("there is no picture in it")
    video = container.streams.video[0]
    sounds = container.streams.audio
    if len(sounds) != len(plan.sounds):
        raise NotAsMeantError(f"it has {len(sounds)} streams of sound, {len(plan.sounds)} were meant")
    if (video.width, video.height) != (plan.width, plan.height):
        raise NotAsMeantError(f"it is {video.width} x {video.height}, {plan.width} x {plan.height} was meant")
    fragmented = any(box.name == "moof" for box in boxes)
    indexed = bool(boxes) and not fragmented
    if indexed:
        frames, length = video.frames, float((video.duration or 0) * video.time_base)
        # It is an index that says so: what lies where it ends must be there, and be a picture.
        if not end_is_there(container, video, boxes[-1].offset + boxes[-1].length):
            raise NotAsMeantError("its last pictures are not there, or do not decode")
    else:
        frames, length = _counted(container, video, written.step)
    if frames != written.frames:
        raise NotAsMeantError(f"it has {frames} pictures, {written.frames} were sent")
    if abs(length - written.duration) > written.step + 0.002:
        raise NotAsMeantError(f"it is {length:.3f} s long, {written.duration:.3f} s were sent")
    duration = container.duration / av.time_base if container.duration and container.duration > 0 else length
    codecs = [_video_string(video), *dict.fromkeys(_audio_string(sound) for sound in sounds)]
    return Checked(
        duration=round(duration, 6),
        width=video.width,
        height=video.height,
        frames=frames,
        video_codec=video.codec_context.name if video.codec_context.name != "libdav1d" else "av1",
        audio_codec=sounds[0].codec_context.name if sounds else None,
        codecs=",".join(codecs),
        boxes=boxes,
        x264=x264,
    )


def _counted(container: Any, video: Any, step: float) -> tuple[int, float]:
    """Pictures, and seconds from the first to the end of the last, by reading all of it."""
    frames, first, end = 0, None, 0.0
    for packet in container.demux(video):
        if not packet.size:
            continue
        frames += 1
        at = float((packet.pts or 0) * packet.time_base)
        first = at if first is None else min(first, at)
        end = max(end, at + (float(packet.duration * packet.time_base) if packet.duration else step))
    return frames, end - (first or 0.0)


def end_is_there(container: Any, video: Any, size: int) -> bool:
    """Whether the last picture lies within the file, and the last key frame decodes."""
    entries = video.index_entries
    if not len(entries) or any(entry.pos + entry.size > size for entry in entries):
        return False
    container.seek(entries[-1].timestamp, stream=video)
    if not video.codec_context.is_open:
        video.codec_context.thread_count = 1  # of several, each would want a picture of its own first
    return any(packet.decode() for packet in container.demux(video))


def _video_string(stream: Any) -> str:
    context = stream.codec_context
    data = context.extradata or b""
    if context.name == "h264" and len(data) > 3:
        return f"avc1.{data[1]:02x}{data[2]:02x}{data[3]:02x}"
    pixels = stream.width * stream.height
    level = next((level for most, level in _VP9_LEVELS if pixels <= most), 62)
    return f"vp09.00.{level:02d}.08"


def _audio_string(stream: Any) -> str:
    context = stream.codec_context
    data = context.extradata or b""
    if context.name == "aac" and data:
        kind = data[0] >> 3
        if kind == 31 and len(data) > 1:
            kind = 32 + ((data[0] & 7) << 3 | data[1] >> 5)
        return f"mp4a.40.{kind}"
    return "opus" if "opus" in context.name else "mp4a.40.2"
