"""Single pictures: how good, how large, turned the right way up, as JPEG and WebP. Only child processes import this."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import log2
from typing import Any

import av
from av.filter import Graph

from processors.media.decoding import turn_of

PQ = 16
"""The code of the HDR transfer curve that a usual screen would show as a grey fog. (The other, HLG, it can show.)"""

_SMALL = (64, 36)
_DARK, _BRIGHT = 24, 232
_TURNS = {90: ("transpose", "clock"), 270: ("transpose", "cclock"), 180: ("rotate", "PI")}


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a picture is once it is shown: its pixels made square, turned the right way up."""

    width: int
    height: int

    def within(self, width: int, height: int) -> Shape:
        """The same shape in a box, in even numbers of pixels; never larger than it is."""
        factor = min(Fraction(1), Fraction(width, self.width), Fraction(height, self.height))
        return Shape(*(max(2, round(side * factor / 2) * 2) for side in (self.width, self.height)))


def shape_of(frame: Any, stream: Any) -> Shape:
    """The shape of a frame of a stream."""
    sample = Fraction(stream.sample_aspect_ratio or 1)
    if not Fraction(1, 16) < sample < 16:
        sample = Fraction(1)
    width, height = frame.width, frame.height
    # Made larger in one direction, never smaller.
    if sample >= 1:
        width = round(width * sample)
    else:
        height = round(height / sample)
    return Shape(height, width) if turn_of(frame) in {90, 270} else Shape(width, height)


def interest(frame: Any) -> float:
    """How much there is to see: bits of information in its greys, less where it is dark, glaring or broken."""
    small = frame.reformat(*_SMALL, format="gray")
    plane = small.planes[0]
    data = bytes(plane)
    greys = b"".join(data[row : row + _SMALL[0]] for row in range(0, plane.line_size * _SMALL[1], plane.line_size))
    counts = [0] * 32
    for grey in greys:
        counts[grey >> 3] += 1
    bits = -sum(count / len(greys) * log2(count / len(greys)) for count in counts if count)
    return bits if _DARK < sum(greys) / len(greys) < _BRIGHT and not frame.is_corrupt else bits / 4


def shown(frame: Any, shape: Shape, pixel_format: str) -> Any:
    """A frame turned as it is meant and scaled to `shape`, in the colours of a usual screen."""
    turn = turn_of(frame)
    width, height = (shape.height, shape.width) if turn in {90, 270} else (shape.width, shape.height)
    graph = Graph()
    nodes = [
        graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
    ]
    if frame.interlaced_frame:
        nodes.append(graph.add("yadif"))
    full = pixel_format.startswith("yuvj")
    colours = f"out_color_matrix=bt601:out_range={'full' if full else 'limited'}"
    bright = frame.color_trc == PQ
    nodes.append(graph.add("scale", f"{width}:{height}:flags=bicubic:{'out_range=full' if bright else colours}"))
    nodes.append(graph.add("format", "rgb24" if bright else pixel_format))
    if turn:
        nodes.append(graph.add(*_TURNS[turn]))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes)
    graph.configure()
    when = frame.pts, frame.time_base
    frame.pts, frame.time_base = 0, Fraction(1, 1000)
    graph.push(frame)
    graph.push(None)
    frame.pts, frame.time_base = when
    made: Any = graph.pull()
    if not bright:
        return made
    for plane in made.planes:
        plane.update(bytes(plane).translate(_OF_PQ))
    return made.reformat(
        format=pixel_format,
        src_color_range="JPEG",
        dst_color_range="JPEG" if full else "MPEG",
        dst_colorspace="ITU601",
    )


def _usual(grey: int) -> int:
    """A value of the PQ curve (SMPTE ST 2084) as a usual screen shows it: 203 cd/m² are white, as ITU-R BT.2408 says.

    What is up to five times brighter than white is pressed below it (Reinhard's curve).
    """
    power: float = (grey / 255) ** (32 / 2523)
    light: float = (max(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610) * 10_000 / 203
    pressed: float = (light * (1 + light / 4.93**2) / (1 + light)) ** (1 / 2.2)
    return min(255, round(255 * pressed))


_OF_PQ = bytes(_usual(grey) for grey in range(256))


def as_jpeg(frame: Any) -> bytes:
    """A JPEG file of a `yuvj420p` frame."""
    return _encoded(frame, "mjpeg", {"qmin": "3", "qmax": "3"})


def as_webp(frame: Any) -> bytes:
    """A WebP file of a `yuv420p` frame."""
    return _encoded(frame, "libwebp", {"quality": "80", "compression_level": "4"})


def _encoded(frame: Any, encoder: str, options: dict[str, str]) -> bytes:
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base = Fraction(1, 25)
    context.options = options
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
