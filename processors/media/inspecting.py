"""Finds out what a video is made of before anything is made of it: headers, and the first picture that decodes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import Type as SideData
from av.stream import Discard, Disposition

from processors.media.opening import MAX_PIXELS, RefusedError, Source

MAX_SIDE = 16384
"""Pixels of the longest side of a picture that is decoded."""

MAX_PACKETS = 20_000
"""Packets in which a picture must be found that decodes."""

SOUND_PACKETS = 50
"""Packets of a sound stream in which something must decode, else it is taken for broken."""

MAX_SOUNDS = 8
"""Sound streams that are looked at."""

_TURNS = {
    (1, 0, 0, 1): "",
    (-1, 0, 0, 1): "hflip",
    (1, 0, 0, -1): "vflip",
    (-1, 0, 0, -1): "hflip,vflip",
    (0, 1, -1, 0): "transpose=clock",
    (0, -1, 1, 0): "transpose=cclock",
    (0, 1, 1, 0): "transpose=cclock_flip",
    (0, -1, -1, 0): "transpose=clock_flip",
}
"""The signs of a display matrix (a b c d) → the filters that do what it says."""


class TooLargeError(Exception):
    """The picture has more pixels than anybody's memory should hold."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The stream of pictures."""

    index: int
    codec: str
    profile: str | None
    level: int
    pix_fmt: str
    bits: int
    """Of a sample."""
    width: int
    height: int
    aspect: Fraction
    """Of a sample."""
    turn: str
    """Filters that bring it upright; empty where it is."""
    rotation: int
    """Degrees, as the decoder says it; tells whether the turn changes."""
    interlaced: bool
    transfer: int
    """As ITU-T H.273 numbers them; 2: not said. The next three likewise."""
    primaries: int
    matrix: int
    full_range: bool
    frame_rate: Fraction | None
    frames: int
    """As the header says; 0 where it does not."""
    time_base: Fraction


@dataclass(frozen=True, slots=True)
class Sound:
    """A stream of sound."""

    index: int
    codec: str
    profile: str | None
    rate: int
    """Samples a second."""
    channels: int
    layout: str
    default: bool
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What there is to work with."""

    container: str
    duration: float | None
    """Seconds, as the header says."""
    start: Fraction
    """Seconds at which its first stream begins."""
    picture: Picture
    sounds: tuple[Sound, ...]
    """The default one first."""
    left_out: tuple[str, ...]
    """Streams that nothing is made of, in words."""
    damage: tuple[str, ...]
    tags: Mapping[str, str]
    chapters: tuple[Mapping[str, Any], ...]


def inspect(source: Source) -> Inspected:
    """Look at a file. Raises RefusedError where there is no picture in it that decodes, and TooLargeError."""
    with source.demuxed() as container:
        video = _picture_stream(container, source)
        sounds = _sound_streams(container)
        picture = _described(video)
        _check_size(picture.width, picture.height)
        frame, mute = _first_frames(container, video, [stream for stream, _ in sounds])
        if frame is None:
            what = source.missing or "nothing of its picture decodes"
            raise RefusedError("unreadable", what)
        _check_size(frame.width, frame.height)
        duration = container.duration / av.time_base if container.duration and container.duration > 0 else None
        others = _others(container, len(sounds))
        return Inspected(
            container=container.format.name,
            duration=duration,
            start=Fraction(container.start_time or 0, av.time_base),
            picture=_seen(picture, frame),
            sounds=tuple(sound for stream, sound in sounds if stream.index not in mute),
            left_out=others,
            damage=tuple(
                f"nothing of the sound ({sound.codec}) decodes" for stream, sound in sounds if stream.index in mute
            ),
            tags=dict(container.metadata),
            chapters=tuple(container.chapters()[:1000]),
        )


def turn_of(frame: Any) -> str:
    """The filters that bring a frame upright."""
    try:
        matrix = struct.unpack("=9i", bytes(frame.side_data[SideData.DISPLAYMATRIX]))
    except (KeyError, struct.error):
        return ""
    a, b, c, d = ((value > 1 << 14) - (value < -(1 << 14)) for value in (*matrix[:2], *matrix[3:5]))
    return _TURNS.get((a, b, c, d), "")


def aspect_of(stream: Any) -> Fraction:
    """Width to height of one sample: 1 where it is not said, or nonsense."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 16) <= aspect <= 16 else Fraction(1)


def _picture_stream(container: Any, source: Source) -> Any:
    for stream in source.picture_streams(container):
        if stream.codec_context is not None:
            return stream
    raise RefusedError("unreadable", source.missing or "its video is in a codec that FFmpeg does not know")


def _sound_streams(container: Any) -> list[tuple[Any, Sound]]:
    found = []
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is None or context.sample_rate <= 0 or not 0 < context.channels <= 64:
            continue
        sound = Sound(
            index=stream.index,
            codec=context.name,
            profile=stream.profile,
            rate=context.sample_rate,
            channels=context.channels,
            layout=context.layout.name,
            default=bool(stream.disposition & Disposition.default),
            tags=dict(stream.metadata),
        )
        found.append((stream, sound))
    found.sort(key=lambda pair: not pair[1].default)
    return found[:MAX_SOUNDS]


def _described(stream: Any) -> Picture:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return Picture(
        index=stream.index,
        codec=context.name,
        profile=stream.profile,
        level=context.level,
        pix_fmt=context.pix_fmt or "",
        bits=8,
        width=context.width,
        height=context.height,
        aspect=aspect_of(stream),
        turn="",
        rotation=0,
        interlaced=context.field_order in (2, 3, 4, 5),
        transfer=int(context.color_trc),
        primaries=int(context.color_primaries),
        matrix=int(context.colorspace),
        full_range=int(context.color_range) == 2,
        frame_rate=Fraction(rate) if rate and 0 < rate <= 1000 else None,
        frames=max(0, stream.frames),
        time_base=Fraction(stream.time_base),
    )


def _seen(picture: Picture, frame: Any) -> Picture:
    """What the header said, corrected by what came out of the decoder."""
    return replace(
        picture,
        pix_fmt=frame.format.name,
        bits=max(component.bits for component in frame.format.components),
        width=frame.width,
        height=frame.height,
        turn=turn_of(frame),
        rotation=frame.rotation,
        interlaced=picture.interlaced or frame.interlaced_frame,
        transfer=int(frame.color_trc),
        primaries=int(frame.color_primaries),
        matrix=int(frame.colorspace),
        full_range=int(frame.color_range) == 2 or frame.format.name.startswith("yuvj"),
    )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise TooLargeError(
            f"its picture is {width} x {height} pixels: no more than {MAX_SIDE} a side and {MAX_PIXELS:,} in all are worked on"
        )


def _first_frames(container: Any, video: Any, sounds: list[Any]) -> tuple[Any, set[int]]:
    """The first picture that decodes, and the sound streams of which nothing does."""
    wanted = [video, *sounds]
    for stream in container.streams:
        if stream not in wanted:
            stream.discard = Discard.all
    video.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    video.codec_context.thread_count = 1  # of several, each would want a picture of its own first
    picture: Any = None
    failures = dict.fromkeys((stream.index for stream in sounds), 0)
    for number, packet in enumerate(_packets(container, wanted)):
        if number >= MAX_PACKETS or (picture is not None and number >= SOUND_PACKETS * len(wanted)):
            break
        index = packet.stream.index
        if index == video.index:
            picture = picture or _frame(video.codec_context, packet)
        elif index in failures:
            if _frame(packet.stream.codec_context, packet) is not None:
                del failures[index]
            else:
                failures[index] += 1
        if picture is not None and not failures:
            break
    if picture is None:
        picture = _frame(video.codec_context, None)
    return picture, {index for index, count in failures.items() if count >= SOUND_PACKETS}


def _packets(container: Any, streams: list[Any]) -> Any:
    """Until the end, or until it cannot be read on."""
    try:
        for packet in container.demux(streams):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return


def _frame(context: Any, packet: Any) -> Any:
    """The first frame that comes out, if any."""
    try:
        return next(iter(context.decode(packet)), None)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):
        return None


def _others(container: Any, sounds: int) -> tuple[str, ...]:
    found = []
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if len(pictures) > 1:
        found.append(f"{len(pictures) - 1} more pictures than the first")
    if (unused := len(container.streams.audio) - sounds) > 0:
        found.append(f"{unused} of the sound streams")
    if container.streams.subtitles:
        found.append("subtitles")
    return tuple(found)
