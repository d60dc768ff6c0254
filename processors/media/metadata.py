"""All that FFmpeg knows of a file, as a JSON document. Only child processes import this: see `child`.

    {"format": {…}, "chapters": [{…}, …], "streams": [{…}, …], "left_out": ["…", …]}

Numbers that have a unit carry it at the end of their name: `_seconds`, `_bytes`, `_px` (pixels),
`_bits`, `_bps` (bits a second), `_fps` (frames a second), `_hz`, `_degrees`. Numbers without one are
counts. Ratios are text, `16:9`. Names of colours, codecs and layouts are FFmpeg's. What is not known
is not there. `rotation_degrees` is by how much a player turns the picture clockwise. Times are
counted from the start of the file's own clock, `start_seconds`.

The document takes MAX_SIZE bytes at most. `left_out` says, in sentences, what it would have had
besides; it is not there where nothing was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from math import isfinite
from typing import Any

import av
import orjson
from av.stream import Disposition

from processors.media.colours import colours
from processors.media.decoding import duration_of, turn_of, video_stream
from processors.media.tags import cleaned, tags_of

MAX_SIZE = 32 * 1024
STREAMS, CHAPTERS = 64, 200

_FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}
_DISPOSITIONS = tuple(one for one in Disposition if one)


def describe(container: Any, size: int, picture: Any | None, *, gps: bool) -> dict[str, Any]:
    """The document about an open file of `size` bytes. `picture`: the first frame of its first video stream.

    `gps`: with where it was recorded.
    """
    left_out = _LeftOut()
    streams = list(container.streams)
    chapters = _of(container.chapters) or []
    left_out.beyond("stream", len(streams) - STREAMS)
    left_out.beyond("chapter", len(chapters) - CHAPTERS)
    main = video_stream(container)
    document = {
        "format": _format(container, size, main, gps, left_out),
        "chapters": [_chapter(one, gps, left_out) for one in chapters[:CHAPTERS]],
        "streams": [_stream(one, picture if one is main else None, gps, left_out) for one in streams[:STREAMS]],
    }
    return _fitting(_known(document), left_out)


def _format(container: Any, size: int, main: Any, gps: bool, left_out: _LeftOut) -> dict[str, Any]:
    tags = tags_of(container.metadata, gps=gps, left_out=left_out.add)
    return {
        "name": container.format.name,
        "long_name": container.format.long_name,
        "duration_seconds": _of(lambda: duration_of(container, main)),
        "start_seconds": _of(lambda: container.start_time / av.time_base),
        "bit_rate_bps": _of(lambda: int(container.bit_rate) or None),
        "size_bytes": size,
        "created": _created(tags),
        "tags": tags,
    }


def _created(tags: Mapping[str, str]) -> str | None:
    """Many programs write the beginning of time where they do not know."""
    said = tags.get("creation_time", "")
    return (said if not said.startswith(("1970-01-01T00:00:00", "1904-01-01T00:00:00")) else "") or tags.get("date")


def _chapter(chapter: Mapping[str, Any], gps: bool, left_out: _LeftOut) -> dict[str, Any]:
    tags = tags_of(chapter["metadata"], gps=gps, left_out=left_out.add)
    return {
        "start_seconds": _of(lambda: float(chapter["start"] * chapter["time_base"])),
        "end_seconds": _of(lambda: float(chapter["end"] * chapter["time_base"])),
        "title": tags.pop("title", None),
        "tags": tags,
    }


def _stream(stream: Any, picture: Any | None, gps: bool, left_out: _LeftOut) -> dict[str, Any]:
    context = _of(lambda: stream.codec_context)
    base = _of(lambda: stream.time_base)
    known = {
        "index": stream.index,
        "type": stream.type,
        "codec": _of(lambda: context.name),
        "codec_long_name": _of(lambda: context.codec.long_name),
        "codec_tag": _of(lambda: _tag(context.codec_tag)),
        "profile": _of(lambda: context.profile),
        "level": _of(lambda: _level(context.name, context.level)),
        "duration_seconds": _of(lambda: float(stream.duration * base)),
        "start_seconds": _of(lambda: float(stream.start_time * base)),
        "bit_rate_bps": _of(lambda: context.bit_rate or None),
        "frames": _of(lambda: stream.frames or None),
        "language": _of(lambda: None if stream.language == "und" else stream.language),
        "dispositions": _of(lambda: [str(one.name) for one in _DISPOSITIONS if stream.disposition & one]) or None,
    }
    if stream.type == "video" and context is not None:
        known |= _video(stream, context, picture)
    elif stream.type == "audio" and context is not None:
        known |= {
            "sample_rate_hz": _of(lambda: context.sample_rate or None),
            "channels": _of(lambda: context.layout.nb_channels),
            "channel_layout": _of(lambda: context.layout.name),
            "sample_format": _of(lambda: context.format.name),
        }
    elif stream.type == "attachment":
        known["mime_type"] = _of(lambda: stream.mimetype)
    return {**known, "tags": tags_of(_of(lambda: stream.metadata) or {}, gps=gps, left_out=left_out.add)}


def _video(stream: Any, context: Any, picture: Any | None) -> dict[str, Any]:
    sample = _of(lambda: stream.sample_aspect_ratio or context.sample_aspect_ratio) or Fraction(1)
    turn = turn_of(picture) if picture is not None else None
    return {
        "width_px": context.width or None,
        "height_px": context.height or None,
        "sample_aspect": _of(lambda: _ratio(sample)),
        "display_aspect": _of(lambda: _ratio(Fraction(context.width, context.height) * sample)),
        "rotation_degrees": turn,
        "pixel_format": _of(lambda: context.pix_fmt),
        "bit_depth_bits": _of(lambda: max(part.bits for part in context.format.components)),
        "frame_rate_fps": _of(lambda: float(stream.average_rate)),
        "base_frame_rate_fps": _of(lambda: float(stream.base_rate)),
        "field_order": _of(lambda: _FIELD_ORDERS.get(context.field_order)),
        "reordered_frames": _of(lambda: context.reorder_depth or None),
        **colours(context, picture),
    }


def _level(codec: str, level: int) -> str | None:
    if level <= 0:
        return None
    match codec:
        case "h264":
            return "1b" if level == 9 else f"{level // 10}.{level % 10}"
        case "hevc":
            return f"{level / 30:.1f}"
        case "av1" | "libdav1d" | "libaom-av1":
            return f"{2 + (level >> 2)}.{level & 3}"
        case _:
            return str(level)


def _tag(tag: str) -> str | None:
    return tag if tag.isascii() and tag.isprintable() and tag.strip() else None


def _ratio(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"


def _of(get: Callable[[], Any]) -> Any:
    """What FFmpeg has to say, or None where that is nothing, or nonsense."""
    with suppress(
        AttributeError, TypeError, ValueError, ArithmeticError, LookupError, NotImplementedError, av.FFmpegError
    ):
        return get()
    return None


def _known(value: Any) -> Any:
    """The document without what is not known; its texts clean, its numbers finite."""
    if isinstance(value, dict):
        found = {key: _known(one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one is not None and one != {}}
    if isinstance(value, list):
        return [_known(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if isfinite(value) else None
    if isinstance(value, str):
        return cleaned(value, 1000) or None
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        return None
    return value


class _LeftOut:
    """Counts what is left out, to say it."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, why: str, count: int = 1) -> None:
        self._counts[why] = self._counts.get(why, 0) + count

    def beyond(self, what: str, count: int) -> None:
        if count > 0:
            self.add(f"{what}s beyond what has room here", count)

    def sentences(self) -> list[str]:
        return [f"{count} {why}" for why, count in self._counts.items()]


def _fitting(document: dict[str, Any], left_out: _LeftOut) -> dict[str, Any]:
    """The document, made smaller until it fits: tags first, then chapters and streams from the end."""

    def made() -> dict[str, Any]:
        said = left_out.sentences()
        return {**document, "left_out": said} if said else document

    def too_large() -> bool:
        return len(orjson.dumps(made())) > MAX_SIZE

    holders = [*reversed(document["streams"]), *reversed(document["chapters"]), document["format"]]
    for holder in holders:
        if not too_large():
            return made()
        if tags := holder.pop("tags", {}):
            left_out.add("tags that have no room here", len(tags))
    for part in ("chapters", "streams"):
        while too_large() and len(document[part]) > 1:
            kept = len(document[part]) // 2
            left_out.beyond(part.removesuffix("s"), len(document[part]) - kept)
            del document[part][kept:]
    return made()
