"""A short real video for `spoolhouse up --demo`: `python -m processors.media.demo PATH`."""

from __future__ import annotations

import math
import sys
from array import array
from fractions import Fraction
from pathlib import Path

import av

SECONDS = 4
RATE = 25
WIDTH, HEIGHT = 640, 360
SAMPLE_RATE = 48000
BLOCK = 1024
"""Samples in a sound frame, as AAC takes them."""


def make_demo_video(path: Path) -> None:
    """Write a moving pattern with a rising tone: MP4, H.264 and AAC, index first."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        picture = container.add_stream("libx264", rate=RATE)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number in range(SECONDS * RATE):
            container.mux(picture.encode(_pattern(number)))
        container.mux(picture.encode(None))
        for first in range(0, SECONDS * SAMPLE_RATE, BLOCK):
            container.mux(sound.encode(_tone(first)))
        container.mux(sound.encode(None))


def _pattern(number: int) -> av.VideoFrame:
    """Diagonal waves that walk, under colours that turn."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    frame.pts = number
    turn = 2 * math.pi * number / (SECONDS * RATE)
    tints = (None, int(128 + 60 * math.sin(turn)), int(128 + 60 * math.cos(turn)))
    for plane, tint in zip(frame.planes, tints, strict=True):
        rows = plane.buffer_size // plane.line_size
        if tint is None:
            wave = bytes(int(128 + 90 * math.sin(x / 20)) for x in range(plane.line_size + 2 * rows + 126))
            offset = number * 5 % 126
            plane.update(b"".join(wave[offset + y : offset + y + plane.line_size] for y in range(rows)))
        else:
            plane.update(bytes([tint]) * plane.buffer_size)
    return frame


def _tone(first: int) -> av.AudioFrame:
    """From 220 Hz, an octave higher by the end; quiet."""
    frame = av.AudioFrame(format="fltp", layout="mono", samples=BLOCK)
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first, Fraction(1, SAMPLE_RATE)
    times = ((first + n) / SAMPLE_RATE for n in range(BLOCK))
    samples = array("f", (0.1 * math.sin(2 * math.pi * (220 * t + 110 * t * t / SECONDS)) for t in times))
    plane = frame.planes[0]
    plane.update(samples.tobytes().ljust(plane.buffer_size, b"\0"))
    return frame


if __name__ == "__main__":
    make_demo_video(Path(sys.argv[1]))
