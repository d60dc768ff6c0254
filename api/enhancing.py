"""Renditions of a video, because a person asks: for the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass

from api.drive_retrying import LONGEST_ID, TRIES
from processors.copies import fold
from streams.entries import new_event
from streams.errors import ConflictError, LogUnavailableError, NotFoundError, RejectedError
from streams.events import EnhancementRequested, FileSettled, VideoStored
from streams.log import Log
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is in the log."""

    video: str
    preset: str
    hls: bool
    id: str
    """Of the request's event: the cause of all that is done about it."""
    ver: int
    """Of the video's subject: what becomes of the request is told beyond it."""


async def ask(log: Log, settings: Settings, video: str, preset: str | None, *, hls: bool) -> Asked:
    """Ask for a preset's rendition (None: the one that the settings choose), and a ladder.

    Raises NotFoundError for an unknown id, RejectedError (400 for a preset that there is none of, 409 where
    there is no file to make it of), LogUnavailableError.
    """
    chosen = preset or settings.enhance_preset
    if chosen not in settings.all_presets:
        known = ", ".join(sorted(settings.all_presets))
        raise RejectedError(400, f"There is no preset {chosen[:100]!r}. There are: {known}.")
    for _ in range(TRIES):
        history = await log.history(video) if len(video) <= LONGEST_ID and video.isascii() else []
        if not any(isinstance(one.event, VideoStored | FileSettled) for one in history):
            raise NotFoundError(f"There is no video {video[:LONGEST_ID]}.")
        facts = fold(history)
        if facts.door == "rendition":
            raise RejectedError(409, "This is a rendition itself. Ask for one of the video that it was made of.")
        if facts.state != "present":
            advice = f" Fetch it back first: spoolhouse restore {video}" if facts.state == "offloaded" else ""
            raise RejectedError(409, f"The local file is {facts.state}: there is nothing to make it of.{advice}")
        before = sum(isinstance(one.event, EnhancementRequested) for one in history)
        request = EnhancementRequested(
            revision=facts.revision, request=before + 1, preset=chosen, hls=hls, reason="a person asked for it"
        )
        new = new_event(video, request, source="request", expected=facts.ver)
        try:
            placed = await log.append(new)
        except ConflictError:
            continue
        return Asked(video, chosen, hls, new.id, placed.ver)
    raise LogUnavailableError(f"{video} changes too fast to decide anything: try again in a moment")
