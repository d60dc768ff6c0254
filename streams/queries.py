"""What processors and sources may ask of the past, as Protocols that projections fulfil.

They keep `processors` and `projections` apart: bootstrap hands the one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from streams.codec import Recorded


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
