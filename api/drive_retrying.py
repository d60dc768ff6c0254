"""Once more to Google Drive, because a person asks: for the API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from processors.copies import Copies, fold
from streams.entries import new_event
from streams.errors import ConflictError, LogUnavailableError, NotFoundError, RejectedError
from streams.events import DriveUploadRequested, FileSettled, RowAdopted, VideoStored
from streams.keys import partition_of
from streams.log import Log
from streams.retries import Retries
from streams.settings import Settings

GROUP = "drive"
"""The processor that copies to Drive."""

LONGEST_ID = 100
"""Characters: what is longer is no id of ours."""

TRIES = 10
"""How often a request is decided anew because something else was written first."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of the wish."""

    video: str
    outcome: Literal["complete", "replayed", "hastened", "requested"]
    """`complete`: nothing to do. `replayed`: it was parked. `hastened`: its next try would have come
    later. `requested`: it is in the queue now."""
    file_id: str | None = None
    """In Drive, where it is complete."""
    link: str | None = None

    @property
    def words(self) -> str:
        """For a person."""
        return {
            "complete": f"is in Google Drive already: {self.link}",
            "replayed": "was given up, and is tried again now",
            "hastened": "is tried again now",
            "requested": "is in the queue for Google Drive",
        }[self.outcome]


async def retry(log: Log, settings: Settings, video: str) -> Retried:
    """Have a video copied to Drive now, as far as that is up to us.

    Raises NotFoundError for an unknown id, RejectedError (409) where there is nothing that could be
    copied or no Drive to copy to, LogUnavailableError.
    """
    for _ in range(TRIES):
        history = await log.history(video) if len(video) <= LONGEST_ID and video.isascii() else []
        if not any(isinstance(one.event, VideoStored | FileSettled | RowAdopted) for one in history):
            raise NotFoundError(f"There is no video {video}.")
        facts = fold(history)
        _require_drive(settings)
        copy = facts.drive_copy()
        if copy is not None and copy.completed is not None and copy.damaged is None:
            return Retried(video, "complete", copy.file_id, copy.completed.link)
        _require_file(facts)
        partition = partition_of(video, log.partitions)
        retries = Retries(log.redis, log.keys, GROUP)
        for parked in await retries.parked(partition):
            if parked.subject == video:
                await retries.replay(parked)
                return Retried(video, "replayed")
        if await retries.hasten(partition, video):
            return Retried(video, "hastened")
        request = DriveUploadRequested(
            revision=facts.revision, request=facts.drive_requests + 1, reason="a person asked for it"
        )
        try:
            await log.append(new_event(video, request, source="retry", expected=facts.ver))
        except ConflictError:
            continue
        return Retried(video, "requested")
    raise LogUnavailableError(f"{video} changes too fast to decide anything: try again in a moment")


async def set_aside(log: Log) -> list[str]:
    """The videos whose way to Drive failed and waits: for its next try, or parked for a person."""
    retries, found = Retries(log.redis, log.keys, GROUP), dict[str, None]()
    for partition in range(log.partitions):
        for subject in (
            *(parked.subject for parked in await retries.parked(partition)),
            *await retries.delayed(partition),
        ):
            if not subject.startswith("!"):  # an entry that cannot be read has no video
                found[subject] = None
    return list(found)


def _require_drive(settings: Settings) -> None:
    if not settings.drive_configured:
        raise RejectedError(
            409,
            "Google Drive is not configured. Set DRIVE_FOLDER_ID, put a credentials.json beside it, and restart; "
            "`spoolhouse drive check` then says whether it works.",
        )


def _require_file(facts: Copies) -> None:
    if facts.path is None:
        raise RejectedError(409, "Nothing is known of this video but its row: there is no file to copy.")
    if facts.state != "present":
        advice = " Fetch it back first: spoolhouse restore" if facts.state == "offloaded" else ""
        raise RejectedError(409, f"The local file is {facts.state}: there is nothing to copy.{advice}")
