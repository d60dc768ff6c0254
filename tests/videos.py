"""Tiny real videos, made with PyAV, in whatever container the file name asks for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

CODECS = {
    ".mp4": ("libx264", "aac"),
    ".mov": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".avi": ("mpeg4", "pcm_s16le"),
    ".webm": ("libvpx-vp9", "libopus"),
}
"""Extension → video and audio codec."""


def make_video(
    path: Path,
    seconds: float = 1.0,
    *,
    width: int = 160,
    height: int = 120,
    rate: int = 10,
    sound: bool = False,
    shade: int = 0,
) -> Path:
    """Write a moving grey pattern to `path` and return it. `shade` (0-255) makes contents differ."""
    video_codec, audio_codec = CODECS[path.suffix.lower()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # The container is named, for mp4 written under a name in capitals is still mp4.
    muxer = {".mkv": "matroska"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    with av.open(str(path), "w", format=muxer) as container:
        video = container.add_stream(video_codec, rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, rate)
        if video_codec == "libx264":
            video.options = {"preset": "ultrafast"}
        elif video_codec == "libvpx-vp9":
            video.options = {"deadline": "realtime", "cpu-used": "8"}
        audio = container.add_stream(audio_codec, rate=48000, layout="mono") if sound else None
        for number in range(max(1, round(seconds * rate))):
            container.mux(video.encode(_picture(width, height, number, shade)))
        container.mux(video.encode(None))
        if audio is not None:
            fifo = av.AudioFifo()
            samples = int(48000 * seconds)
            fifo.write(_silence(samples))
            size = audio.codec_context.frame_size or 1024
            done = 0
            while (frame := fifo.read(size, partial=True)) is not None:
                frame.pts, frame.sample_rate, frame.time_base = done, 48000, Fraction(1, 48000)
                done += frame.samples
                container.mux(audio.encode(_as(frame, audio.codec_context.format.name)))
            container.mux(audio.encode(None))
    return path


def _picture(width: int, height: int, number: int, shade: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate(frame.planes):
        if index:
            plane.update(bytes([128 + shade // 4]) * plane.buffer_size)
        else:
            stride = plane.line_size
            row = bytes((x * 2 + number * 8 + shade) % 256 for x in range(stride))
            plane.update(row * (plane.buffer_size // stride))
    frame.pts = number
    return frame


def _silence(samples: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="s16", layout="mono", samples=samples)
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


def _as(frame: av.AudioFrame, sample_format: str) -> av.AudioFrame:
    if frame.format.name == sample_format:
        return frame
    converted = av.AudioResampler(format=sample_format, layout="mono", rate=48000).resample(frame)[0]
    converted.pts, converted.time_base = frame.pts, frame.time_base
    return converted
