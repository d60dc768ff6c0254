"""The filters that pictures and sound go through: as text, and at work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

from processors.media.inspecting import turn_of
from processors.media.planning import HLG, PQ, Plan, SoundPlan

_BT2020 = 9
_RGB = 0
_UNSAID = 2

_LARGE = 1280 * 720
"""Pixels above which a picture is too large for non-local means: they take nine tenths of the time there."""

_DEBLOCK = {"light": "deblock=filter=weak:block=8", "strong": "deblock=filter=strong:block=8"}


def _averaged(near: float, far: float, frames: int, how: str = "p") -> str:
    """Means over some frames, of what differs by less than `near` in one and `far` in all of them."""
    planes = ":".join(f"{plane}a={near}:{plane}b={far}" for plane in range(3))
    return f"atadenoise={planes}:s={frames}:a={how}"


# Measured with noise of 4 and of 10 levels: the highest PSNR for their time. Light is for the former, and gains nothing on
# the latter. Without any noise each costs some of the finest detail: a preset without clean-up keeps it.
_LIGHT = [_averaged(0.05, 0.15, 5), "unsharp=3:3:0.15:3:3:0"]
_STRONG = [_averaged(0.08, 0.3, 7, "s"), "nlmeans=s=3:p=3:r=5", "unsharp=3:3:0.2:3:3:0"]
_STRONG_LARGE = ["bilateral=sigmaS=2:sigmaR=0.1", _averaged(0.06, 0.2, 9, "s"), "unsharp=3:3:0.2:3:3:0"]

_LOUDNESS = "loudnorm=I=-16:TP=-1.5:LRA=11"
"""As web players have it, measured as EBU R 128 measures."""


@dataclass(frozen=True, slots=True)
class Look:
    """What of a picture decides about its filters. A stream may change it at any time."""

    width: int
    height: int
    pix_fmt: str
    aspect: Fraction
    turn: str
    interlaced: bool
    transfer: int
    primaries: int
    matrix: int
    full_range: bool

    @classmethod
    def of(cls, frame: Any, aspect: Fraction, turn: str, interlaced: bool) -> Look:
        """Of a decoded frame."""
        name = frame.format.name
        return cls(
            frame.width,
            frame.height,
            name,
            aspect,
            turn,
            interlaced,
            int(frame.color_trc),
            int(frame.color_primaries),
            int(frame.colorspace),
            int(frame.color_range) == 2 or name.startswith("yuvj"),
        )


def picture_filters(look: Look, plan: Plan) -> str:
    """What a picture goes through, as FFmpeg writes it."""
    cleanup = plan.preset.cleanup
    upright = "transpose" in look.turn
    width, height = (plan.height, plan.width) if upright else (plan.width, plan.height)
    cropped = (look.width - look.width % 2, look.height - look.height % 2) == (width, height) and look.aspect == 1
    filters = []
    if look.interlaced:
        filters.append("bwdif=mode=send_frame:parity=auto:deint=interlaced")
    if cropped and cleanup != "none":
        filters.append(_DEBLOCK[cleanup])
    if cropped and (look.width, look.height) != (width, height):
        filters.append(f"crop={width}:{height}:0:0")
    filters += _converted(look, None if cropped else (width, height))
    if cleanup == "light":
        filters += _LIGHT
    elif cleanup == "strong":
        filters += _STRONG_LARGE if width * height > _LARGE else _STRONG
    if look.turn:
        filters.append(look.turn)
    filters.append("setsar=1")
    return ",".join(filters)


def colours_of(look: Look) -> tuple[int, int, int]:
    """Primaries, transfer and matrix of what comes out of the filters."""
    if _is_mapped(look) or look.matrix == _RGB:
        return 1, 1, 1
    return look.primaries, look.transfer, look.matrix


def sound_filters(sound: SoundPlan, first: int, at_once: int) -> str:
    """What sound goes through. `first`: the sample, at the rate that comes out, at which it begins.

    `at_once`: samples that the encoder takes; of a short sound, the loudness filter gives all in one piece.
    """
    # Gaps become silence, and what overlaps is cut, so that it stays with the picture.
    filters = [f"aresample={sound.rate}:async=1:min_hard_comp=0.1:first_pts={first}"]
    if sound.loudness:
        filters += [_LOUDNESS, f"aresample={sound.rate}"]
    filters.append(f"aformat=sample_fmts=fltp:sample_rates={sound.rate}:channel_layouts={sound.layout}")
    filters.append(f"asetnsamples={at_once}:p=0")
    return ",".join(filters)


class _Filter:
    """A graph that is built anew where what goes in takes another form."""

    def __init__(self) -> None:
        self._graph: Any = None
        self.used: list[str] = []
        """The filters that were used, one entry for each form that the stream took."""

    def flush(self) -> Iterator[Any]:
        """What is still inside."""
        if self._graph is not None:
            self._graph.push(None)
            yield from _pulled(self._graph)
            self._graph = None

    def _through(self, frame: Any) -> Iterator[Any]:
        self._graph.push(frame)
        yield from _pulled(self._graph)


class PictureFilter(_Filter):
    """Frames in, frames out, all of them; follows a stream that changes its pictures' size or form."""

    def __init__(self, plan: Plan, threads: int) -> None:
        super().__init__()
        self._plan, self._threads = plan, threads
        self._look: Look | None = None
        self._interlaced = plan.picture.interlaced
        self._turn, self._rotation = plan.picture.turn, plan.picture.rotation

    def push(self, frame: Any) -> Iterator[Any]:
        """Filter one more. Raises av.FFmpegError where a filter fails."""
        self._interlaced = self._interlaced or frame.interlaced_frame
        if frame.rotation != self._rotation:
            # Only then: asking for side data keeps a frame in memory for longer than it is needed.
            self._rotation, self._turn = frame.rotation, turn_of(frame)
        look = Look.of(frame, self._plan.picture.aspect, self._turn, self._interlaced)
        if look != self._look:
            yield from self.flush()
            self._look = look
            self._graph = self._built(look, frame.time_base)
        yield from self._through(frame)

    def _built(self, look: Look, time_base: Fraction) -> Any:
        text = picture_filters(look, self._plan)
        if text not in self.used:
            self.used.append(text)
        graph = Graph()
        graph.threads = self._threads
        source = graph.add(
            "buffer",
            f"video_size={look.width}x{look.height}:pix_fmt={look.pix_fmt}:time_base={time_base}"
            f":pixel_aspect={look.aspect}:colorspace={look.matrix}:range={2 if look.full_range else 1}",
        )
        return _linked(graph, source, text, "buffersink")


class SoundFilter(_Filter):
    """The same for sound."""

    def __init__(self, sound: SoundPlan, at_once: int) -> None:
        super().__init__()
        self._sound, self._at_once = sound, at_once
        self._form: tuple[int, str, str] | None = None

    def push(self, frame: Any, begins: int) -> Iterator[Any]:
        """Filter one more. `begins`: the sample at which it begins to speak, should a new graph be needed."""
        layout = frame.layout
        # Some decoders know how many channels there are, not which.
        name = f"{layout.nb_channels}C" if "channels" in layout.name else layout.name
        form = (frame.sample_rate, frame.format.name, name)
        if form != self._form:
            yield from self.flush()
            self._form = form
            self._graph = self._built(form, begins)
        yield from self._through(frame)

    def _built(self, form: tuple[int, str, str], begins: int) -> Any:
        rate, sample_format, layout = form
        text = sound_filters(self._sound, begins, self._at_once)
        if not self.used:
            self.used.append(text)
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "abuffer", f"time_base=1/{rate}:sample_rate={rate}:sample_fmt={sample_format}:channel_layout={layout}"
        )
        return _linked(graph, source, text, "abuffersink")


def _linked(graph: Any, source: Any, text: str, sink: str) -> Any:
    last = source
    for part in text.split(","):
        name, _, arguments = part.partition("=")
        node = graph.add(name, arguments or None)
        last.link_to(node)
        last = node
    last.link_to(graph.add(sink))
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame


def _is_mapped(look: Look) -> bool:
    return look.transfer in (PQ, HLG) or _BT2020 in (look.primaries, look.matrix)


def _converted(look: Look, size: tuple[int, int] | None) -> list[str]:
    """To 8 bits, 4:2:0, limited range and ordinary colours, and to another size where one is given."""
    options = []
    if size is not None:
        options += [f"w={size[0]}", f"h={size[1]}", "flags=bicubic"]
    if _is_mapped(look):
        options += ["out_transfer=bt709", "out_primaries=bt709", "out_color_matrix=bt709", "intent=perceptual"]
    elif look.matrix == _RGB:
        options += ["out_color_matrix=bt709"]
    if look.full_range:
        options += ["out_range=tv"]
    if not options and look.pix_fmt == "yuv420p":
        return []
    return [f"scale={':'.join(options)}" if options else "scale", "format=yuv420p"]
