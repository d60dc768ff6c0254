"""Films, made with PyAV, that are large enough for a player to load in parts."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 10
"""Pictures in a second; each second begins with a key picture."""


def make_noise(path: Path, seconds: int, rng: random.Random, *, width: int = 320, height: int = 180) -> Path:
    """An mp4, moov first, of pictures that do not compress: about a megabyte a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        _encode(container, seconds, rng, width, height, {"preset": "ultrafast", "qp": "6", "g": str(RATE)})
    return path


def _encode(
    container: av.container.OutputContainer,
    seconds: int,
    rng: random.Random,
    width: int,
    height: int,
    options: dict[str, str],
) -> None:
    stream = container.add_stream("libx264", rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, RATE)
    noise = np.random.default_rng(rng.randrange(2**32))
    for number in range(seconds * RATE):
        picture = noise.integers(0, 255, (height * 3 // 2, width), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
