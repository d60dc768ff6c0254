"""The encoders of pictures that may be there, best first, and what each is told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.codec import codecs_available

from processors.media.planning import Plan

ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_qsv", "h264_amf", "libvpx-vp9")
"""Tried one after the other. All but the last make H.264."""

MAX_THREADS = 16
"""Beyond that an encoder takes memory rather than time."""

_VP9_SPEED = {"ultrafast": "8", "superfast": "8", "veryfast": "6", "faster": "5", "fast": "4", "medium": "3"}
_LOOKAHEAD = {"slow": "40", "slower": "40", "veryslow": "40"}
"""Pictures that x264 looks ahead, where it would hold more of them than memory should."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one encoder makes a rendition."""

    encoder: str
    options: dict[str, str]
    container: str
    """`mp4` or `webm`."""
    sound: str
    """The encoder of the sound."""


def available(encoders: tuple[str, ...] = ENCODERS) -> tuple[str, ...]:
    """Those that this build of FFmpeg has."""
    return tuple(name for name in encoders if name in codecs_available)


def recipe(encoder: str, plan: Plan) -> Recipe:
    """What to tell an encoder so that it makes what the preset asks for."""
    preset = plan.preset
    if encoder == "libx264":
        options = {"preset": preset.speed, "crf": str(preset.crf)}
        if preset.speed in _LOOKAHEAD:
            options["rc-lookahead"] = _LOOKAHEAD[preset.speed]
        if plan.segment is not None:
            options |= {"sc_threshold": "0", "forced-idr": "1", "g": "9999"}
        return Recipe(encoder, options, "mp4", "aac")
    if encoder == "libvpx-vp9":
        # Its scale of quality goes to 63.
        quality = min(63, round(preset.crf * 1.45))
        speed = _VP9_SPEED.get(preset.speed, "2")
        options = {"crf": str(quality), "b": "0", "deadline": "good", "cpu-used": speed, "row-mt": "1"}
        if plan.segment is not None:
            options["g"] = "9999"
            return Recipe(encoder, options, "mp4", "aac")
        return Recipe(encoder, options, "webm", "libopus")
    rate = plan.picture.frame_rate or Fraction(25)
    # A tenth of a bit for each pixel at crf 23, twice as much six below.
    bits = plan.width * plan.height * min(float(rate), 120.0) * 0.1 * 2 ** ((23 - preset.crf) / 6)
    options = {"b": str(max(100_000, int(bits)))}
    if plan.segment is not None:
        options |= {"forced-idr": "1", "g": "9999"}
    return Recipe(encoder, options, "mp4", "aac")
