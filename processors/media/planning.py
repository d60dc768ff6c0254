"""Decides how a rendition is made, and why. Pure: what a file is comes in, what is to be done goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from processors.media.inspecting import Inspected, Picture, Sound
from streams.events import Action
from streams.presets import Preset

MAX_AREA = 4096 * 2304
"""Pixels of the largest picture that is made: H.264's level 5.2, beyond which few players go."""

MAX_SIDE = 4096

_PLAIN_PROFILES = frozenset(
    {"Constrained Baseline", "Baseline", "Main", "High", "Progressive High", "Constrained High"}
)
_TIMED = frozenset({"mov", "mp4", "matroska", "webm", "mpegts", "flv"})
"""Containers that give every packet a time of its own: of others nothing can be taken as it is."""

_LAYOUTS = {3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_INDEX = 64 * 1024
"""Bytes of an index for all but packets: tags, chapters, codecs."""

_EACH = 48_000
"""Bits a second that each channel of surround sound must get, else it becomes stereo."""

PQ, HLG = 16, 18


@dataclass(frozen=True, slots=True)
class SoundPlan:
    """What becomes of one stream of sound."""

    source: Sound
    copied: bool
    rate: int
    layout: str
    bit_rate: int
    loudness: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rendition is made."""

    action: Action
    reason: str
    picture: Picture
    sounds: tuple[SoundPlan, ...]
    width: int
    height: int
    duration: float | None
    frames: int | None
    """Expected."""
    time_base: Fraction
    """Of the pictures' times."""
    start: Fraction
    """Seconds of the source that become 0."""
    preset: Preset
    segment: float | None
    """Seconds between key frames that segments begin with; None: one file."""
    warnings: tuple[str, ...]
    damage: tuple[str, ...]

    reserved: int = 0
    """Bytes kept free in front for the index; 0: it is brought there at the end, by moving everything else."""

    @property
    def copies_everything(self) -> bool:
        """Whether nothing is encoded at all."""
        return self.copies_picture and all(sound.copied for sound in self.sounds)

    @property
    def copies_picture(self) -> bool:
        """Whether the picture is taken as it is."""
        return self.action == "remux"

    def reserving(self, size: int) -> Plan:
        """The same with room for its index, where that is next to nothing beside the `size` bytes of the source."""
        if not (self.copies_everything and self.duration and self.frames):
            return self
        sounds = sum(self.duration * sound.source.rate / 1024 for sound in self.sounds)
        # Of a picture: its size, time, order and place; sound has the same length throughout.
        room = int(_INDEX + 1.1 * (40 * self.frames + 24 * sounds))
        return replace(self, reserved=room) if 100 * room < size else self

    def without(self, index: int, why: str) -> Plan:
        """The same, but for one stream of sound."""
        kept = tuple(sound for sound in self.sounds if sound.source.index != index)
        return replace(self, sounds=kept, damage=(*self.damage, why))

    def in_opus(self) -> Plan:
        """The same with sound as Opus takes it."""
        sounds = tuple(
            replace(one, copied=False, rate=48_000, layout="mono" if one.layout == "mono" else "stereo")
            for one in self.sounds
        )
        return replace(self, sounds=sounds)


def plan(found: Inspected, job: Mapping[str, Any], *, encode: str | None = None) -> Plan:
    """What to do with a file for a job (`ports.EnhanceJob`). `encode`: why the picture must be made anew."""
    preset = Preset.model_validate(job["preset"])
    hls = job["kind"] == "hls"
    picture = found.picture
    wanted = job["height"] if hls and job["height"] else preset.max_height
    width, height, smaller = size_of(picture, wanted)
    why = encode or _why_encode(found, job, preset, height < _upright(picture)[1] - 1)
    copied = why is None
    # Where the picture is made anew, the sound is brought to the usual loudness along with it.
    as_it_is = not hls and _is_timed(found) and (copied or not preset.loudness)
    sounds = tuple(_sound_plan(sound, preset, as_it_is) for sound in (found.sounds[:1] if hls else found.sounds))
    if copied:
        width, height = picture.width, picture.height
    frames = picture.frames or None
    if frames is None and found.duration and picture.frame_rate:
        frames = max(1, round(found.duration * picture.frame_rate))
    return Plan(
        action="remux" if copied else "encode",
        reason=why or _why_remux(sounds),
        picture=picture,
        sounds=sounds,
        width=width,
        height=height,
        duration=found.duration,
        frames=frames,
        time_base=_time_base(picture.time_base),
        start=max(Fraction(0), found.start),
        preset=preset,
        segment=float(job["segment"]) if hls else None,
        warnings=tuple(_warnings(found, copied=copied, smaller=smaller, hls=hls)),
        damage=found.damage,
    )


def size_of(picture: Picture, max_height: int | None) -> tuple[int, int, bool]:
    """Width and height of what is made of it, even, samples square; and whether it had to be made smaller to play."""
    full_width, full_height = _upright(picture)
    width, height = full_width, full_height
    if max_height is not None and height > max_height:
        width, height = width * max_height / height, float(max_height)
    fits = min(1.0, MAX_SIDE / max(width, height), (MAX_AREA / (width * height)) ** 0.5)
    width, height = width * fits, height * fits
    if (width, height) == (picture.width, picture.height) or (height, width) == (picture.width, picture.height):
        # An odd line is cut off: to squeeze it in would blur all others.
        return max(2, int(width) & ~1), max(2, int(height) & ~1), False
    return max(2, round(width / 2) * 2), max(2, round(height / 2) * 2), fits < 1


def is_hdr(picture: Picture) -> Literal["PQ", "HLG"] | None:
    """By which curve its brightness is written, where it is beyond what ordinary screens show."""
    return "PQ" if picture.transfer == PQ else "HLG" if picture.transfer == HLG else None


def _upright(picture: Picture) -> tuple[float, float]:
    width: float = picture.width
    height: float = picture.height
    # The longer side is kept, for nothing gained by inventing samples.
    if picture.aspect > 1:
        width = width * float(picture.aspect)
    elif picture.aspect < 1:
        height = height / float(picture.aspect)
    return (height, width) if "transpose" in picture.turn else (width, height)


def _why_encode(found: Inspected, job: Mapping[str, Any], preset: Preset, smaller: bool) -> str | None:
    picture = found.picture
    container = found.container.split(",")[0]
    if job["kind"] == "hls":
        return f"a segment of {job['segment']:g} s must begin with a key frame, on every rung at the same time"
    if job["mode"] == "always":
        return "everything is encoded, as the settings ask"
    if preset.always:
        return "the preset cleans up whatever there is"
    if picture.codec != "h264":
        return f"{picture.codec} in {container} does not play in every browser"
    if picture.pix_fmt not in ("yuv420p", "yuvj420p"):
        return f"H.264 with {picture.pix_fmt} pictures does not play in every browser"
    if picture.profile not in _PLAIN_PROFILES or picture.level > 52:
        return f"H.264 {picture.profile or 'of an unknown profile'}, level {picture.level / 10:g}, does not play everywhere"
    if is_hdr(picture):
        return f"it is HDR ({is_hdr(picture)}), which few screens show"
    if picture.turn:
        return "it lies on its side, or is mirrored, and is set upright"
    if picture.interlaced:
        return "it is interlaced"
    if picture.width % 2 or picture.height % 2:
        return f"{picture.width} x {picture.height} is an odd size"
    if smaller:
        return f"the preset wants at most {preset.max_height} lines, it has {picture.height}"
    if not _is_timed(found):
        return f"{container} does not say when which picture is shown"
    return None


def _is_timed(found: Inspected) -> bool:
    return bool(_TIMED & set(found.container.split(",")))


def _why_remux(sounds: tuple[SoundPlan, ...]) -> str:
    if not sounds:
        return "already H.264 yuv420p, without sound"
    made = sorted({sound.source.codec for sound in sounds if not sound.copied})
    if made:
        return f"already H.264 yuv420p; only its sound ({', '.join(made)}) is made AAC"
    return "already H.264 yuv420p and AAC"


def _sound_plan(sound: Sound, preset: Preset, as_it_is: bool) -> SoundPlan:
    channels = sound.channels
    channels = min(channels, 6)
    if channels > 2 and preset.audio_bit_rate < _EACH * channels:
        channels = 2
    layout = {1: "mono", 2: "stereo"}.get(channels) or _LAYOUTS[channels]
    rate = sound.rate if sound.rate in _RATES else 48_000
    copied = as_it_is and sound.codec == "aac" and sound.profile in ("LC", "HE-AAC", "HE-AACv2")
    return SoundPlan(
        source=sound,
        copied=copied,
        rate=rate,
        layout=layout,
        # AAC takes no more than 6144 bits in a frame of a channel.
        bit_rate=min(preset.audio_bit_rate, 6 * rate * channels),
        loudness=preset.loudness,
    )


def _time_base(source: Fraction) -> Fraction:
    """Fine enough for the source's times, and small enough for MP4."""
    return source if 0 < source <= 1 and source.denominator <= 1_000_000 else Fraction(1, 90_000)


def _warnings(found: Inspected, *, copied: bool, smaller: bool, hls: bool) -> list[str]:
    warnings = []
    curve = is_hdr(found.picture)
    if curve and not copied:
        warnings.append(f"the picture is HDR ({curve}) and was tone-mapped for ordinary screens")
    if smaller:
        warnings.append("the picture is larger than H.264 players take and was made smaller")
    if found.left_out:
        warnings.append(f"left out: {', '.join(found.left_out)}")
    if hls and len(found.sounds) > 1:
        warnings.append("only the first of several sound streams is in the ladder")
    return warnings
