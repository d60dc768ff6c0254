"""Which renditions are wanted of a video: what was asked for, and what the settings say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from processors.copies import Copies
from processors.storage.names import safe_name
from streams.codec import Recorded
from streams.events import EnhancementRequested, FileSettled, RenditionKind, RenditionStored, VideoStored
from streams.identity import rendition_id
from streams.media_changes import is_sound
from streams.presets import Preset, digest_of
from streams.settings import Settings

MOST = 1000
"""How often one rendition may be made because the one before had gone."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Renditions of one preset."""

    preset: str
    """Its name."""
    hls: bool
    """A ladder, too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One rendition."""

    preset: str
    kind: RenditionKind
    height: int | None
    """Of a rung."""
    mode: str
    parameters: dict[str, Any]
    """What decides how it is made, before the source was looked at."""

    @property
    def name(self) -> str:
        """What its file name and its id tell of it: `web-1f3c9a52`, `web_720p-9be0c3f1`."""
        rung = "" if self.height is None else f"_{self.height}p"
        return f"{self.preset}{rung}-{digest_of(self.parameters)}"


def wish_of(event: VideoStored | FileSettled | EnhancementRequested, settings: Settings) -> Wish | None:
    """What an event asks for; None: nothing. What came in to be enhanced is asked for even where that is switched off."""
    match event:
        case EnhancementRequested():
            return Wish(event.preset or settings.enhance_preset, event.hls or settings.hls)
        case VideoStored(door="rendition"):
            return None
        case VideoStored(enhance=True):
            return Wish(settings.enhance_preset, settings.hls)
    if is_sound(event):
        return None
    door = event.door if isinstance(event, VideoStored) else "watch"
    if settings.enhance == "off" or door not in settings.enhance_doors:
        return None
    return Wish(settings.enhance_preset, settings.hls)


def progressive(wish: Wish, preset: Preset, settings: Settings) -> Wanted:
    """The rendition that is one file."""
    mode = _mode(settings)
    return Wanted(wish.preset, "progressive", None, mode, {"mode": mode, **preset.model_dump()})


def rungs(wish: Wish, preset: Preset, settings: Settings, height: int) -> list[Wanted]:
    """The ladder of a source of that many rows: no rung above it, and one of its own height where all are."""
    mode, top = _mode(settings), min(height, preset.max_height or height)
    heights = [rung for rung in settings.hls_ladder if rung <= top] or [max(2, top - top % 2)]
    return [
        Wanted(
            wish.preset,
            "hls",
            rung,
            mode,
            {"mode": mode, "height": rung, "segment": settings.hls_segment, **preset.model_dump()},
        )
        for rung in heights
    ]


def stored_renditions(history: Iterable[Recorded[Any]]) -> dict[str, RenditionStored]:
    """Every rendition that was ever stored of a video, by its id."""
    return {one.event.rendition: one.event for one in history if isinstance(one.event, RenditionStored)}


def ids_of(wanted: Wanted, facts: Copies) -> Iterator[str]:
    """The ids that this rendition may have: the next one where what had the one before is gone, or of other content."""
    for take in range(MOST):
        yield rendition_id(facts.video, facts.revision, f"{wanted.name}/{take}")


def file_name(wanted: Wanted, facts: Copies) -> str:
    """The name of its file, without its ending."""
    return safe_name(f"{facts.video}_r{facts.revision}_{wanted.name}")


def _mode(settings: Settings) -> str:
    return "always" if settings.enhance == "always" else "auto"
