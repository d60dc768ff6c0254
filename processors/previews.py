"""Makes a poster and a sheet of small pictures of every video, for lists and for scrubbing.

They lie in a folder of the video and are no part of what is kept for ever: they can be made again from the video.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from processors.copies import fold
from processors.media_failures import reason_of, unwritable
from processors.ports import MediaFailure, PreviewJob, Previews, Studio
from processors.storage.disk import Marks, require_space
from processors.storage.files import fsync_folder, make_folder
from processors.storage.threads import in_thread
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import RejectedError
from streams.events import Event, FileSettled, PreviewsFailed, PreviewsMade, VideoStored
from streams.media_changes import is_sound
from streams.paths import OsPath
from streams.processing import Context, First, processor
from streams.queries import Histories

POSTER, POSTER_WEBP, SPRITE, THUMBNAILS = "poster.jpg", "poster.webp", "sprite.jpg", "thumbnails.vtt"

SIDE_BY_SIDE = 1
"""Videos at a time: a poster takes a second or two, and a film that is being encoded wants the cores."""


@processor(
    "previews",
    on=(VideoStored, FileSettled),
    concurrency=SIDE_BY_SIDE,
    needs=lambda settings: settings.previews,
)
async def previews(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Make the pictures of each revision once."""
    stored: VideoStored | FileSettled = recorded.event
    if is_sound(stored) or (isinstance(stored, VideoStored) and stored.door == "rendition"):
        return
    facts = fold(await context.service(Histories).history(recorded.subject))  # type: ignore[type-abstract]
    if facts.path is None or facts.state != "present" or stored.revision < facts.revision:
        return  # gone, offloaded, or replaced by what a later event tells of
    folder = context.settings.previews_folder / recorded.subject
    try:
        await in_thread(require_space, folder.parent, 0, Marks.of(context.settings))
        making = await in_thread(_fresh, folder, stored.revision)
        found = await context.service(Studio).preview(PreviewJob(facts.path, OsPath(str(making))))  # type: ignore[type-abstract]
        if isinstance(found, MediaFailure):
            await in_thread(shutil.rmtree, making, ignore_errors=True)
            reason = reason_of(found, folder.parent, context)
            context.log.info("no pictures of a video", kind=found.kind, reason=reason)
            yield PreviewsFailed(revision=stored.revision, reason=reason)
            return
        reach("previews.made")
        final = await in_thread(_swap, making, folder, stored.revision)
        reach("previews.placed")
    except (OSError, RejectedError) as error:
        raise unwritable(folder, getattr(error, "strerror", None) or str(error)) from error
    yield _made(found, final, stored.revision)


def _made(found: Previews, folder: Path, revision: int) -> PreviewsMade:
    sheet = found.tiles > 0
    return PreviewsMade(
        revision=revision,
        poster=OsPath(str(folder / POSTER)),
        poster_webp=OsPath(str(folder / POSTER_WEBP)),
        at=found.at,
        width=found.width,
        height=found.height,
        sprite=OsPath(str(folder / SPRITE)) if sheet else None,
        thumbnails=OsPath(str(folder / THUMBNAILS)) if sheet else None,
        tiles=found.tiles,
    )


def _fresh(folder: Path, revision: int) -> Path:
    """An empty folder to make them in; what a dead process left of it is gone."""
    making = folder / f".making-r{revision}"
    shutil.rmtree(making, ignore_errors=True)
    make_folder(making)
    return making


def _swap(making: Path, folder: Path, revision: int) -> Path:
    """Give the new pictures their place and remove those of earlier revisions, and of an earlier try."""
    final, former = folder / f"r{revision}", folder / ".former"
    fsync_folder(making)
    shutil.rmtree(former, ignore_errors=True)
    if final.exists():
        os.rename(final, former)
    os.rename(making, final)
    fsync_folder(folder)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final
