"""What becomes of work on pictures that failed: whose fault it is decides whether it is tried again."""

from __future__ import annotations

from pathlib import Path

from processors.ports import MediaFailure
from streams.errors import DependencyDownError, TransientError
from streams.processing import Context

ROOM_AGAIN = 60.0
"""Seconds until work that filled the disk is tried again."""

LOOK_AGAIN = 30.0
"""Seconds until a folder that cannot be written is looked at again."""

_WORTH_ANOTHER_TRY = frozenset({"killed", "gone", "disk_full"})


def reason_of(failure: MediaFailure, folder: Path, context: Context) -> str:
    """The reason of a failure that stays. Raises what makes any other worth another try.

    A disk that is full before anything was begun is waited for by whoever begins; one that this very work filled
    would be filled by it again and again, so it has as many tries as any other.
    """
    if failure.kind == "unwritable":
        raise unwritable(folder, failure.reason)
    if failure.kind == "unavailable":
        raise DependencyDownError("the studio", failure.reason)
    if failure.kind in _WORTH_ANOTHER_TRY and context.attempt < context.settings.attempts:
        raise TransientError(failure.reason, retry_after=ROOM_AGAIN if failure.kind == "disk_full" else None)
    return failure.reason


def unwritable(folder: Path, reason: str) -> DependencyDownError:
    """The folder cannot be written just now: everything that is written there waits."""
    return DependencyDownError(
        f"the folder {folder}",
        f"it cannot be written: {reason}. It goes on by itself once that is mended",
        retry_after=LOOK_AGAIN,
        unreachable=False,
    )
