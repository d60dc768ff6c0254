"""Presets: what renditions are made with. Those that are built in, and how settings change them or add others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Speed = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]


class Preset(BaseModel):
    """How a rendition is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cleanup: Literal["none", "light", "strong"] = "light"
    """How much noise and blocking is taken out of the picture, and how much it is sharpened, where it is encoded."""
    always: bool = False
    """Encode even what every browser plays as it is: the clean-up is what is wanted."""
    loudness: bool = True
    """Bring the sound to the usual loudness (EBU R 128), where it is encoded."""
    crf: int = Field(21, ge=0, le=51)
    """Quality of the picture (H.264's constant rate factor): lower is better and larger."""
    speed: Speed = "veryfast"
    """How much time the encoder takes for a smaller file."""
    max_height: int | None = Field(None, ge=16, le=4320)
    """Pixels: larger pictures are made smaller. None: the size stays."""
    audio_bit_rate: int = Field(160_000, ge=16_000, le=512_000)
    """Bits a second, of all channels."""


BUILT_IN: Mapping[str, Preset] = {
    "web": Preset(),
    "clean": Preset(cleanup="strong", always=True, speed="fast"),
    "small": Preset(max_height=480, crf=24, audio_bit_rate=96_000),
    "plain": Preset(cleanup="none", loudness=False),
}
"""`web`: plays everywhere. `clean`: for noisy recordings. `small`: for phones. `plain`: changes nothing that it need not."""


def all_presets(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Preset]:
    """The presets by name, as `changes` add to them. Raises ValueError naming what is wrong."""
    presets = dict(BUILT_IN)
    known = ", ".join(Preset.model_fields)
    for name, change in changes.items():
        if not (name.isascii() and name.isidentifier() and len(name) <= 32):
            raise ValueError(f"SPOOLHOUSE_PRESETS: {name!r} is no name of a preset: up to 32 letters, digits and _")
        try:
            presets[name] = Preset.model_validate({**presets.get(name, Preset()).model_dump(), **change})
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, (name, *fault["loc"])))
            raise ValueError(f"SPOOLHOUSE_PRESETS: {where}: {fault['msg']}. A preset has {known}") from error
    return presets


def digest_of(parameters: Mapping[str, Any]) -> str:
    """Eight hex digits that tell these parameters from others: part of a rendition's name."""
    return hashlib.sha256(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
