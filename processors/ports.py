"""What processors ask of outside things, in our own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from streams.paths import OsPath


@dataclass(frozen=True, slots=True)
class Probed:
    """What a video's container and streams say."""

    container: str
    """FFmpeg's name of the format, e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    duration: float | None
    """Seconds."""
    width: int
    """Pixels."""
    height: int
    video_codec: str
    audio_codec: str | None
    frame_rate: float | None
    """Frames a second, average."""
    bit_rate: int | None
    """Bits a second, over all streams."""
    size: int
    """Bytes."""
    damaged: str | None = None
    """What is wrong with it all the same, e.g. that its end is missing."""


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why nothing is known of a file."""

    kind: Literal["gone", "unreadable", "no_video", "timeout", "crashed", "unavailable"]
    """`gone`: no file there. `unreadable`: no container, or a damaged one. `no_video`: whole, but
    without a picture. `timeout`, `crashed`: the prober gave up on it. `unavailable`: no prober."""
    reason: str


class Prober(Protocol):
    """Reads what a video is, without trusting it."""

    async def probe(self, path: OsPath) -> Probed | ProbeFailure:
        """Look at a file. Never raises for what the file is or does; takes a bounded time."""
        ...
