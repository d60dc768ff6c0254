"""Questions about a root: so many files are gone, are they deleted or is the disk?

A held root removes nothing until the files are back or a person answers. Question and answer are
events of the root's own subject, so any process may ask and any may answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from streams.codec import Recorded
from streams.errors import ConflictError, NotFoundError
from streams.events import RootHeld, RootRegistered, RootReleased
from streams.identity import root_subject
from streams.log import Log, new_event
from streams.paths import OsPath
from streams.queries import KnownFile

Answer = Literal["returned", "confirmed", "rejected"]


@dataclass(frozen=True, slots=True)
class HeldRoot:
    """A root that waits for an answer."""

    root: str
    hold: int
    """The how-manieth hold of this root it is."""
    reason: str
    missing: int
    """How many known files are not there."""
    since: datetime


@dataclass(slots=True)
class RootState:
    """A root's history, folded."""

    ver: int = 0
    registered: bool = False
    held: Recorded[RootHeld] | None = None
    """The newest question, open or answered."""
    released: Recorded[RootReleased] | None = None
    """The answer to it, where there is one."""

    @property
    def open(self) -> RootHeld | None:
        """The question that waits for an answer."""
        return self.held.event if self.held is not None and self.released is None else None

    @property
    def answer(self) -> Answer | None:
        """What was answered last."""
        return self.released.event.answer if self.released is not None else None


def fold_root(history: Iterable[Recorded[Any]]) -> RootState:
    """A root's state from its events."""
    state = RootState()
    for recorded in history:
        state.ver = recorded.ver
        match recorded.event:
            case RootRegistered():
                state.registered = True
            case RootHeld():
                state.held, state.released = recorded, None
            case RootReleased() if state.held is not None and recorded.event.hold == state.held.event.hold:
                state.released = recorded
    return state


def digest_of(files: Iterable[KnownFile]) -> str:
    """A fingerprint of missing files, so that an answer is applied to these and no others.

    Files that were removed, came back and vanish once more are another matter.
    """
    return hashlib.sha256("\n".join(sorted(f"{file.id}/{file.removals}" for file in files)).encode()).hexdigest()


async def held_roots(log: Log, roots: Sequence[str]) -> list[HeldRoot]:
    """Those of `roots` that wait for an answer. Raises LogUnavailableError."""
    held = []
    for root in roots:
        state = fold_root(await log.history(root_subject(root)))
        if state.held is not None and state.open is not None:
            event = state.open
            held.append(HeldRoot(root, event.hold, event.reason, event.missing, state.held.time))
    return held


async def confirm_hold(log: Log, root: str) -> HeldRoot:
    """Say that the missing files of a held root are deleted: their rows become removed.

    Raises NotFoundError where the root is not held, LogUnavailableError.
    """
    return await _answer(log, root, "confirmed")


async def reject_hold(log: Log, root: str) -> HeldRoot:
    """Say that the missing files of a held root are to be kept: nothing is removed.

    Raises NotFoundError where the root is not held, LogUnavailableError.
    """
    return await _answer(log, root, "rejected")


async def _answer(log: Log, root: str, answer: Answer) -> HeldRoot:
    subject = root_subject(root)
    while True:
        state = fold_root(await log.history(subject))
        if state.held is None or state.open is None:
            raise NotFoundError(
                f"{root} is not held: there is nothing to answer (`spoolhouse held list` shows what is)"
            )
        event = state.open
        released = RootReleased(path=OsPath(root), hold=event.hold, answer=answer)
        try:
            await log.append(new_event(subject, released, source="person", expected=state.ver))
        except ConflictError:
            continue  # the source wrote meanwhile: the files may be back
        return HeldRoot(root, event.hold, event.reason, event.missing, state.held.time)
