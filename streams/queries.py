"""What processors and sources may ask of the past, as Protocols that projections fulfil.

They keep `processors` and `projections` apart: bootstrap hands the one to the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from streams.codec import Recorded
from streams.downloads import Download
from streams.events import Door, Replica
from streams.paths import OsPath
from streams.subscriptions import Subscription


class Histories(Protocol):
    """The log, to those who must know all that happened to one subject."""

    async def history(self, subject: str) -> list[Recorded[Any]]:
        """Every event of a subject, in order. Raises LogUnavailableError, UndecodableError."""
        ...

    async def epoch(self) -> int:
        """1 for a log that never lost anything; one more for each time it did. Raises LogUnavailableError."""
        ...


@dataclass(slots=True)
class KnownFile:
    """What the catalogue holds of the newest generation at one path of a watched root."""

    id: str
    ver: int
    """The subject's version up to which this was folded."""
    relative: str
    """Path below the root, as `os` gives it."""
    size: int
    modified_ns: int
    device: int
    inode: int
    revision: int
    """0: a row was adopted, but the file was never seen."""
    generation: int
    number: int
    present: bool
    moves: int
    removals: int


class WatchedFiles(Protocol):
    """The watched files as the log knows them."""

    async def known(self, root: str) -> list[KnownFile]:
        """Every path of a root, with those whose file is gone."""
        ...

    async def caught_up(self, timeout: float) -> bool:
        """Wait until all that the log held at the call is applied; False when time is up."""
        ...


@dataclass(frozen=True, slots=True)
class LegacyRow:
    """A row of the legacy `videos` table."""

    number: int
    main_dir: str | None
    path: str
    url: str | None
    status: int | None
    created: str | None
    """`YYYY-MM-DD HH:MM:SS`, local time."""


class LegacyRows(Protocol):
    """What tells the numbers of the legacy table apart."""

    async def foreign_rows(self) -> list[LegacyRow]:
        """Rows that no event explains, by number."""
        ...

    async def all_rows(self) -> list[tuple[LegacyRow, str | None]]:
        """Every row, by number, each with the id of its video where the catalogue knows it."""
        ...


@dataclass(frozen=True, slots=True)
class CopyState:
    """What is known of one copy of a video: of the newest that was begun in that place."""

    video: str
    replica: Replica
    revision: int
    """Of the content that was copied; 0 where it failed before anything was begun.

    Not the video's own revision: the copy is of content that was replaced since.
    """
    state: Literal["started", "complete", "abandoned", "failed", "damaged"]
    """`failed`: the last attempt did; it is tried again by itself, unless it was parked."""
    target: str
    """The stream id, or the Drive file's id; empty where it failed before there was one."""
    completed: datetime | None
    verified: datetime | None
    """When it was last found whole, since it was completed or damaged."""
    verified_deep: bool
    """Whether its bytes were read then."""


@dataclass(frozen=True, slots=True)
class VideoCopies:
    """A video and its copies elsewhere."""

    id: str
    door: Door
    state: Literal["present", "removed", "offloaded", "adopted"]
    root: OsPath | None
    """Of a watched file."""
    path: OsPath
    """Where the local file lies, or lay."""
    filename: str
    """For people."""
    size: int
    """Bytes."""
    created: datetime
    """When it was received or first seen."""
    revision: int
    replicas: tuple[CopyState, ...]
    """At most one for each place; none: nothing was begun there."""

    def copy(self, replica: Replica) -> CopyState | None:
        """The copy of the current content in one place."""
        return next((one for one in self.replicas if (one.replica, one.revision) == (replica, self.revision)), None)


class Replicas(Protocol):
    """Which videos have which copies, as far as the tables have followed the log.

    To look through all videos without reading all histories. Whoever changes or deletes something
    folds that video's history first (`processors.copies`).
    """

    def copies(
        self, *, state: str | None = None, door: str | None = None, created_before: datetime | None = None
    ) -> AsyncIterator[VideoCopies]:
        """Every video (in this state, of this door, come in before), oldest first, page by page.

        What is changed while it is iterated may be seen as it was or as it is, but each video once.
        Raises DependencyDownError.
        """
        ...

    async def copies_caught_up(self, timeout: float) -> bool:
        """Wait until these tables have applied all that the log held at the call; False when time is up."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download that is stored."""

    number: int
    video: str
    path: OsPath


class Downloads(Protocol):
    """The downloads as the tables know them."""

    async def fetched(self, keys: Sequence[str]) -> Mapping[str, Fetched]:
        """Which of these (`Download.archive_key`) are stored and not deleted: the newest of each.

        Raises DependencyDownError.
        """
        ...

    async def open_downloads(self) -> tuple[list[int], list[Download]]:
        """The position of each partition that the table has got to, and every download that is open then, by number.

        The rows may be of a later moment than the positions, never of an earlier one: skip events that a row's `ver`
        has behind it. Positions are empty where the table was never built. Raises DependencyDownError.
        """
        ...

    async def children(self, number: int) -> list[Download]:
        """The entries of a list that are not deleted, by number. Raises DependencyDownError."""
        ...


class Subscriptions(Protocol):
    """The subscriptions as the tables know them."""

    async def subscription(self, number: int) -> Subscription | None:
        """One of them, also where it was removed, with all that it has seen. Raises DependencyDownError."""
        ...

    async def subscriptions(self) -> list[Subscription]:
        """All that were not removed, by number; what they have seen is left out. Raises DependencyDownError."""
        ...

    async def due_subscriptions(self, at: datetime, limit: int) -> list[Subscription]:
        """Those that are to be looked at by then, the longest due first; what they have seen is left out.

        Raises DependencyDownError.
        """
        ...
