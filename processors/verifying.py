"""Compares a video's copies with what the log says was sent, and writes down what was found.

    facts = fold(await log.history(video))
    checked = await verify(facts, store=store, drive=drive, deep=False)
    await write_down(log, facts, checked)

Shallow: what a store says of its objects (size, ETag, MD5), one question for a thousand of them. A
directory keeps no checksums: there only sizes are compared, and only a deep look finds a byte that
turned. Deep: every byte is read and hashed. Whoever deletes something looks right before it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from processors.comparing import Checked, Looking, drive_checked, stream_checked
from processors.copies import Copies, DriveCopy, Stream, fold
from processors.ports import Drive, ObjectStore
from streams.errors import ConflictError, DependencyDownError, TransientError
from streams.events import Event, Replica, ReplicaDamaged, ReplicaVerified
from streams.log import Log, new_event

__all__ = ["Checked", "all_whole", "events_of", "verify", "write_down"]

SOURCE = "verify"
"""Who appends what was found."""

NAMED = 10
"""Faults that an event names; of the others it holds the number."""

TRIES = 5
"""How often results are offered to a log in which others write about the same video."""


def _silent(_: int) -> None:
    return


async def verify(
    facts: Copies, *, store: ObjectStore | None, drive: Drive | None, deep: bool, looking: Looking = _silent
) -> list[Checked]:
    """Look at every copy of a video in the places that are given: current content first, then former ones.

    Never raises for a place that is down: that copy is `unchecked`, with the error. At least one
    result for the current content in each place; none for a video without a file of its own.
    """
    if facts.door is None:
        return []
    checked: list[Checked] = []
    if store is not None:
        current = facts.stream(store.label)
        for stream in _current_first(current, facts.streams.values()):
            look = stream_checked(facts, stream, store, deep, looking)
            found = await _settled(look, "s3", stream.revision, stream.id, deep, _completion(stream))
            if found.state != "absent" or stream is current:  # of former content, what is elsewhere is left there
                checked.append(found)
        if current is None:
            checked.append(_absent(facts, "s3", deep))
    if drive is not None:
        for copy in _current_first(facts.drive_copy(), facts.drive.values()):
            look = drive_checked(facts, copy, drive, deep, looking)
            checked.append(await _settled(look, "drive", copy.revision, copy.file_id, deep, _completion(copy)))
        if facts.drive_copy() is None:
            checked.append(_absent(facts, "drive", deep))
    return sorted(checked, key=lambda one: one.revision != facts.revision)


def all_whole(facts: Copies, checked: Sequence[Checked], replicas: Sequence[Replica]) -> bool:
    """Whether the current content was found whole in every one of these places (and there is one)."""
    whole = {one.replica for one in checked if one.state == "whole" and one.revision == facts.revision}
    return bool(replicas) and whole.issuperset(replicas)


def events_of(facts: Copies, checked: Sequence[Checked]) -> list[tuple[Checked, Event]]:
    """The events that tell what was found, numbered on from the facts, each with its result so numbered.

    Copies that are incomplete, absent or could not be asked are no results.
    """
    numbered: list[tuple[Checked, Event]] = []
    for one in checked:
        if one.state not in {"whole", "damaged"}:
            continue
        result = replace(one, verification=facts.verifications + len(numbered) + 1)
        numbered.append((result, _event(result)))
    return numbered


async def write_down(log: Log, facts: Copies, checked: Sequence[Checked]) -> list[Checked]:
    """Append what was found; the results with their numbers.

    Where others wrote about the video meanwhile it is folded again, and results on copies that are
    no longer what was looked at are left out. Raises LogUnavailableError, ConflictError after some tries.
    """
    told: dict[tuple[Replica, str], Checked] = {}
    for attempt in range(TRIES):
        waiting = [one for one in _still_true(facts, checked) if (one.replica, one.target) not in told]
        numbered = events_of(facts, waiting)
        try:
            await _append(log, facts, [event for _, event in numbered])
        except ConflictError:
            if attempt == TRIES - 1:
                raise
            history = await log.history(facts.video)
            facts = fold(history)
            there = [one.event for one in history]
            told |= {(one.replica, one.target): one for one, event in numbered if event in there}
            continue
        told |= {(one.replica, one.target): one for one, _ in numbered}
        break
    return [told.get((one.replica, one.target), one) for one in checked]


async def _append(log: Log, facts: Copies, events: Sequence[Event]) -> None:
    """Append events one after the other at the version that the facts have.

    Raises ConflictError, also where someone who verifies at the same time may have used the number.
    """
    for number, event in enumerate(events):
        expected = facts.ver + number
        placed = await log.append(new_event(facts.video, event, source=SOURCE, expected=expected))
        if placed.duplicate:
            raise ConflictError(facts.video, expected, placed.ver)


def _still_true(facts: Copies, checked: Iterable[Checked]) -> list[Checked]:
    copies: dict[str, Stream | DriveCopy] = {**facts.streams, **facts.drive}
    return [one for one in checked if one.target in copies and _completion(copies[one.target]) == one.completion]


def _event(one: Checked) -> Event:
    assert one.verification is not None
    if one.state == "whole":
        return ReplicaVerified(
            replica=one.replica,
            revision=one.revision,
            target=one.target,
            verification=one.verification,
            deep=one.deep,
            objects=one.objects,
            size=one.size,
        )
    missing = sum(fault.found is None for fault in one.faults)
    return ReplicaDamaged(
        replica=one.replica,
        revision=one.revision,
        target=one.target,
        verification=one.verification,
        deep=one.deep,
        missing=missing,
        wrong=len(one.faults) - missing,
        faults=tuple(str(fault)[:500] for fault in one.faults[:NAMED]),
    )


def _completion(copy: Stream | DriveCopy) -> str:
    if copy.completed is None:
        return ""
    return copy.completed.manifest_sha256 if isinstance(copy, Stream) else copy.completed.file_id


def _current_first(current: Any, copies: Iterable[Any]) -> list[Any]:
    """The current copy whatever its state, and of each former revision the newest that was completed."""
    former = {one.revision: one for one in copies if one.completed is not None}
    if current is None:
        return list(former.values())
    return [current, *(one for one in former.values() if one.revision != current.revision)]


def _absent(facts: Copies, replica: Replica, deep: bool) -> Checked:
    return Checked(replica, facts.revision, "", "absent", deep, reason="there is no copy yet")


async def _settled(look: Any, replica: Replica, revision: int, target: str, deep: bool, completion: str) -> Checked:
    try:
        checked: Checked = await look
    except (DependencyDownError, TransientError) as error:
        checked = Checked(replica, revision, target, "unchecked", deep, reason=str(error), error=error)
    return replace(checked, completion=completion)
