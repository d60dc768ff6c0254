"""Copies each video to Google Drive: once, whole, resumable at every step.

A step is told to the log before the next one relies on it: the id that the file will have, the
upload session, how much Drive has, that it has all of it and it is right, with whom it is shared.
Whoever goes on after a death asks Drive how far the session is. An id is given out beforehand, so
a create whose reply was lost is refused the second time and never makes a second file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from processors.copies import Copies, fold
from processors.driving import Copying, local_path, shown
from processors.storage.drive_source import ChangedError, GoneError, open_source
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import DependencyDownError, SpoolhouseError, TransientError
from streams.events import (
    DriveUploadFailed,
    DriveUploadRequested,
    DriveUploadStarted,
    Event,
    FileReturned,
    FileSettled,
    VideoRestored,
    VideoStored,
)
from streams.processing import Context, First, processor
from streams.queries import Histories

SIDE_BY_SIDE = 3
"""Uploads at the same time: each holds two chunks in memory, and Drive slows down whoever asks for much more."""


@processor(
    "drive",
    on=(VideoStored, FileSettled, FileReturned, VideoRestored, DriveUploadRequested),
    concurrency=SIDE_BY_SIDE,
    needs=lambda settings: settings.drive_configured,
)
async def drive(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Bring the video's current revision to Drive, from wherever an earlier run left off."""
    histories = context.service(Histories)  # type: ignore[type-abstract]
    facts = fold(await histories.history(recorded.subject))
    revision = getattr(recorded.event, "revision", facts.revision)  # a file that is back says none
    if not wanted(facts, revision) or (facts.door == "rendition" and not context.settings.replicate_renditions):
        return
    begun = facts.drive_copy() is not None
    try:
        async with open_source(facts) as source, aclosing(Copying(facts, source, context).run()) as events:
            async for event in events:
                begun = begun or isinstance(event, DriveUploadStarted)
                yield event
    except ChangedError as error:
        context.log.info("upload to Drive given up: another revision will follow", reason=str(error))
    except (TransientError, DependencyDownError) as error:
        if isinstance(error, GoneError) and not wanted(fold(await histories.history(recorded.subject)), revision):
            return  # it was removed on purpose, and that is known by now
        if not facts.failing:
            yield DriveUploadFailed(
                revision=facts.revision,
                filename=shown(facts.filename),
                path=local_path(facts),
                door=facts.door or "upload",
                episode=facts.episode + 1,
                reason=reason(error),
                begun=begun,
            )
            reach("drive.failure_told")
        raise


def wanted(facts: Copies, revision: int) -> bool:
    """Whether this revision is (still) to be copied: there, the newest, and not whole in Drive."""
    copy = facts.drive_copy()
    return (
        facts.path is not None
        and facts.state == "present"
        and facts.revision == revision
        and (copy is None or copy.completed is None or copy.damaged is not None)
    )


def reason(error: SpoolhouseError) -> str:
    """A failure as people find it in the upload log: `Could not initialize Drive service…`."""
    words = str(error)
    return words.removeprefix(f"{error.dependency}: ") if isinstance(error, DependencyDownError) else words
