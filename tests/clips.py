"""Tiny videos of every kind, made with PyAV, and eyes to look at what was made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Painter = Callable[[int, int, int], np.ndarray]


@dataclass(frozen=True)
class Clip:
    """What to make."""

    muxer: str = "mp4"
    codec: str = "libx264"
    width: int = 128
    height: int = 72
    frames: int = 25
    rate: int = 25
    pix_fmt: str = "yuv420p"
    sound: str | None = "aac"
    sounds: int = 1
    sound_rate: int = 48000
    layout: str = "stereo"
    volume: float = 0.2
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    times: Sequence[int] | None = None
    """Of the pictures, in thousandths of a second."""
    start: float = 0.0
    """Seconds at which the first picture is shown."""
    sound_start: float = 0.0
    rotation: tuple[float, bool] | None = None
    aspect: Fraction = Fraction(1)
    colour: tuple[int, int, int] | None = None
    """Primaries, transfer, matrix."""
    interlaced: bool = False


def paint(number: int, width: int, height: int) -> np.ndarray:
    """A slope that walks, with a bright block that walks faster: luma, 0 to 255."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = (columns * 1.2 + rows * 0.8 + number * 2) % 160 + 40
    left = number * 3 % max(1, width - 16)
    picture[height // 3 : height // 3 + 16, left : left + 16] = 220
    return picture.astype(np.uint8)


def make_clip(path: Path, clip: Clip, painter: Painter = paint) -> Path:
    """Write it."""
    base = Fraction(1, 1000) if clip.times is not None else Fraction(1, clip.rate)
    with av.open(str(path), "w", format=clip.muxer, container_options=clip.container_options) as container:
        container.metadata.update(clip.metadata)
        video: Any = container.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.pix_fmt
        context = video.codec_context
        context.time_base, context.sample_aspect_ratio = base, clip.aspect
        if clip.colour is not None:
            context.color_primaries, context.color_trc, context.colorspace = clip.colour
        if clip.interlaced:
            context.flags |= 1 << 18 | 1 << 29
        if clip.rotation is not None:
            video.set_display_rotation(*clip.rotation)
        names = [clip.sound] * clip.sounds if clip.sound else []
        audios: list[Any] = [
            container.add_stream(name, rate=clip.sound_rate, layout=clip.layout, bit_rate=96_000) for name in names
        ]
        last = 0.0
        for number in range(clip.frames):
            frame = picture(painter(number, clip.width, clip.height), clip.pix_fmt)
            at = clip.times[number] if clip.times is not None else number
            frame.pts, frame.time_base = at + round(clip.start / base), base
            last = float(at * base)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for order, audio in enumerate(audios):
            _sound(container, audio, clip, last + 1 / clip.rate, 220 * (order + 1))
    return path


def picture(luma: np.ndarray, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A frame of that brightness."""
    height, width = luma.shape
    frame = av.VideoFrame.from_ndarray(np.repeat(luma[:, :, None], 3, axis=2), format="rgb24")
    return frame.reformat(width=width, height=height, format=pix_fmt)


def _sound(container: Any, audio: Any, clip: Clip, seconds: float, pitch: float) -> None:
    channels = len(audio.codec_context.layout.channels)
    total = int(seconds * clip.sound_rate)
    for first in range(0, total, 1024):
        times = np.arange(first, min(first + 1024, total)) / clip.sound_rate
        wave = np.tile((clip.volume * np.sin(2 * np.pi * pitch * times)).astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=clip.layout)
        frame.sample_rate, frame.time_base = clip.sound_rate, Fraction(1, clip.sound_rate)
        frame.pts = first + round(clip.sound_start * clip.sound_rate)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


# ---------------------------------------------------------------- what is in a file


def lumas(path: Path) -> list[np.ndarray]:
    """The brightness of every picture."""
    with av.open(str(path)) as container:
        return [frame.reformat(format="gray").to_ndarray() for frame in container.decode(video=0)]


def times(path: Path) -> list[float]:
    """When every picture is shown, in order."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def digest(path: Path, kind: str) -> str:
    """Of all packets' content of the first stream of that kind."""
    hashed = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(**{kind: 0}):
            if packet.size:
                hashed.update(bytes(packet))
    return hashed.hexdigest()


def onset(path: Path, stream: int = 0) -> float:
    """Seconds at which the sound is first heard."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=stream):
            loud = np.abs(frame.to_ndarray().astype(np.float64)).max(axis=0) > 0.02
            if loud.any():
                return float(frame.time) + int(loud.argmax()) / frame.sample_rate
    raise AssertionError("nothing is heard")


def psnr(ours: np.ndarray, clean: np.ndarray) -> float:
    """How near one picture is to another, in dB."""
    error = np.mean((ours.astype(np.float64) - clean.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0
