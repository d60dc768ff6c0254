"""Verifies one video, and has repaired what is wrong with its copies: what `spoolhouse verify` does for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.bootstrap import Recovery
from api.drive_retrying import retry
from processors.copies import Copies, fold
from processors.origins import from_drive, from_stream
from processors.repairing import NoSourceError, repair_stream, request_replication
from processors.restoring import DamagedCopyError
from processors.returning import put_back
from processors.storage.threads import in_thread
from processors.verifying import Checked, verify, write_down
from streams.errors import (
    ConflictError,
    DependencyDownError,
    LogUnavailableError,
    NotFoundError,
    RejectedError,
    TransientError,
)
from streams.paths import escape_path
from streams.settings import Settings

REASON = "a verification found it missing or damaged"

NOT_REPAIRED = (
    NoSourceError,
    DamagedCopyError,
    DependencyDownError,
    TransientError,
    RejectedError,
    NotFoundError,
    ConflictError,
    LogUnavailableError,
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found of one video."""

    video: str
    filename: str
    copies: tuple[Checked, ...]
    """As they are now: after repairs, where there were any."""
    repairs: tuple[str, ...] = ()
    """What was done, or why nothing could be, in words."""
    unwritten: str = ""
    """Why the log does not have the results; empty: it does."""

    @property
    def down(self) -> DependencyDownError | None:
        """Why a place could not be asked at all."""
        errors = (one.error for one in self.copies)
        return next((error for error in errors if isinstance(error, DependencyDownError)), None)

    @property
    def status(self) -> int:
        """0: all is well. 1: something is wrong. 2: it could not be checked, or not be written down."""
        states = {one.state for one in self.copies}
        if states - {"whole", "unchecked"}:
            return 1
        return 2 if self.unwritten or "unchecked" in states else 0


async def look(
    at_hand: Recovery, settings: Settings, video: str, *, deep: bool, repair: bool, looking: Callable[[int], None]
) -> Looked:
    """Verify one video's copies, write down what was found and, where that is wished, repair.

    Raises NotFoundError where nothing is known of it, LogUnavailableError where its history cannot be read.
    """
    facts = fold(await at_hand.log.history(video))
    if not facts.video:
        raise NotFoundError(f"Nothing is known of a video {video}.")
    checked = _that_matter(facts, await _verified(at_hand, facts, deep=deep, looking=looking))
    checked, unwritten = await _written(at_hand, facts, checked)
    repairs: list[str] = []
    if repair and any(one.state not in {"whole", "unchecked"} for one in checked):
        wrong = [one for one in checked if one.state not in {"whole", "unchecked"}]
        repairs = [await _repaired(at_hand, settings, video, one, checked) for one in wrong]
        facts = fold(await at_hand.log.history(video))
        checked = _that_matter(facts, await _verified(at_hand, facts, deep=deep, looking=looking))
        checked, unwritten = await _written(at_hand, facts, checked)
    return Looked(video, escape_path(facts.stored_name), tuple(checked), tuple(repairs), unwritten)


async def _verified(at_hand: Recovery, facts: Copies, *, deep: bool, looking: Callable[[int], None]) -> list[Checked]:
    return await verify(facts, store=at_hand.store, drive=at_hand.drive, deep=deep, looking=looking)


async def _written(at_hand: Recovery, facts: Copies, checked: Sequence[Checked]) -> tuple[list[Checked], str]:
    try:
        return await write_down(at_hand.log, facts, checked), ""
    except (LogUnavailableError, ConflictError) as error:
        return list(checked), str(error)


def _that_matter(facts: Copies, checked: Sequence[Checked]) -> list[Checked]:
    """Of a file that was removed no copy needs to be begun any more."""
    return [one for one in checked if facts.state != "removed" or one.state != "absent"]


# ---------------------------------------------------------------- repairs


async def _repaired(at_hand: Recovery, settings: Settings, video: str, one: Checked, checked: Sequence[Checked]) -> str:
    """Repair one copy, or have it made anew; what came of it, in words."""
    name = {"s3": "the object store", "drive": "Google Drive"}[one.replica]
    try:
        if one.replica == "s3" and one.state == "damaged":
            return await _stream_repaired(at_hand, settings, video, one, checked)
        return f"{name}: {await _asked_for(at_hand, settings, video, one, checked)}"
    except NOT_REPAIRED as error:
        return f"{name}: not repaired: {error}"


async def _stream_repaired(
    at_hand: Recovery, settings: Settings, video: str, one: Checked, checked: Sequence[Checked]
) -> str:
    assert at_hand.store is not None
    try:
        done = await repair_stream(at_hand.log, video, one, store=at_hand.store, drive=at_hand.drive)
    except NoSourceError as error:
        # The local file, or a copy that it can be restored from, may yet be sent as a whole.
        try:
            asked = await _asked_for(at_hand, settings, video, one, checked)
        except NOT_REPAIRED:
            raise error from None
        return f"the object store: {error}; {asked}"
    source = {"local": "the local file", "s3": "the log", "drive": "Google Drive"}[done.source]
    return f"the object store: {done.objects} objects sent again from {source}"


async def _asked_for(
    at_hand: Recovery, settings: Settings, video: str, one: Checked, checked: Sequence[Checked]
) -> str:
    """Have a copy made anew by its processor, from the local file: that is fetched back first where it is gone."""
    facts = fold(await at_hand.log.history(video))
    if one.revision != facts.revision:
        raise NoSourceError("it is a copy of former content, of which there is no other")
    fetched = ""
    if not await in_thread(_lies_there, facts):
        fetched = await _fetched_back(at_hand, settings, facts, one, checked)
    if one.replica == "drive":
        return fetched + (await retry(at_hand.log, settings, video)).words
    await request_replication(at_hand.log, video, facts.revision, REASON)
    return f"{fetched}is in the queue for the object store"


async def _fetched_back(
    at_hand: Recovery, settings: Settings, facts: Copies, one: Checked, checked: Sequence[Checked]
) -> str:
    """Restore the local file from the other place. Raises NoSourceError."""
    others = {other.replica for other in checked if other.state == "whole" and other.revision == facts.revision}
    others.discard(one.replica)
    if "s3" in others and at_hand.store is not None:
        returned = await put_back(at_hand.log, settings, facts.video, await from_stream(facts, at_hand.store), "s3")
    elif "drive" in others and at_hand.drive is not None:
        returned = await put_back(at_hand.log, settings, facts.video, await from_drive(facts, at_hand.drive), "drive")
    else:
        raise NoSourceError("the local file is gone, and there is no other whole copy")
    if returned.unlogged is not None:
        raise returned.unlogged
    return f"{escape_path(str(returned.restored.path))} was restored first, and "


def _lies_there(facts: Copies) -> bool:
    if facts.path is None or facts.state == "offloaded":
        return False
    try:
        return os.stat(facts.path, follow_symlinks=False).st_size == facts.size
    except OSError:
        return False
