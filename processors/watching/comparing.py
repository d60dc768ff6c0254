"""What happened to the files of a root, from what is known and what is there. Pure: no I/O.

Path comes before content: another file at a known path is that video's next revision. A known file
that is not at its path any more and turns up at a free one was moved.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streams.queries import KnownFile

MANY = 20
"""From so many files on, more than half of a root vanishing at once is asked about."""


class Found(NamedTuple):
    """A file as it is on disk: bytes, nanoseconds since the epoch, and where it lives."""

    size: int
    modified_ns: int
    device: int
    inode: int


class Settle(NamedTuple):
    """A file whose content is to be registered."""

    relative: str
    found: Found
    known: KnownFile | None
    """The same video before (an earlier revision, an adopted row); None: it is a new one."""
    revision: int
    generation: int


class Move(NamedTuple):
    """A known file that is elsewhere now."""

    known: KnownFile
    relative: str
    found: Found


class Return(NamedTuple):
    """A removed file that is back, as it was."""

    known: KnownFile
    found: Found


@dataclass(slots=True)
class Changes:
    """What is to be said in the log."""

    moved: list[Move] = field(default_factory=list)
    settled: list[Settle] = field(default_factory=list)
    returned: list[Return] = field(default_factory=list)
    removed: list[KnownFile] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.moved or self.settled or self.returned or self.removed)


def same_file(known: KnownFile, found: Found) -> bool:
    """Whether a file at a known path is the known one, unchanged.

    Device numbers change when disks are mounted anew, and inode numbers are only compared within
    one device: then size and modification time decide.
    """
    return (
        known.size == found.size
        and known.modified_ns == found.modified_ns
        and (known.inode == found.inode or known.device != found.device)
    )


def compare(
    at: Callable[[str], KnownFile | None],
    found: Mapping[str, Found],
    gone: Collection[KnownFile] = (),
    renumbered: Mapping[int, int] | None = None,
) -> Changes:
    """Decide what happened.

    `at` gives what is known at a path (the newest generation, present or not), `found` complete
    files at their paths, `gone` present known files that are not at theirs any more. `renumbered`
    maps device numbers of old to those that stand for the same file systems now.
    """
    changes = Changes()
    devices = renumbered or {}
    news = {path: file for path, file in found.items() if not _unchanged(at(path), file)}
    adrift: dict[Found, KnownFile] = {}
    for known in (*gone, *(at(path) for path in news)):
        if known is not None and known.present:
            adrift[Found(known.size, known.modified_ns, devices.get(known.device, known.device), known.inode)] = known
    moves = _moves(at, news, adrift)
    leaving = {known.relative for known in moves.values()}
    for path, file in news.items():
        known = at(path)
        if path in moves:
            changes.moved.append(Move(moves[path], path, file))
        elif known is None:
            changes.settled.append(Settle(path, file, None, 1, 0))
        elif path in leaving:
            changes.settled.append(Settle(path, file, None, 1, known.generation + 1))
        elif known.revision == 0 or known.present:
            changes.settled.append(Settle(path, file, known, known.revision + 1, known.generation))
        elif same_file(known, file):
            changes.returned.append(Return(known, file))
        else:
            changes.settled.append(Settle(path, file, None, 1, known.generation + 1))
    changes.removed = [known for known in gone if known.relative not in leaving and known.relative not in found]
    return changes


def suspicious(missing: int, present: int, *, continuous: bool) -> str | None:
    """Why so many files vanishing at once is a question for a person; None where it is none.

    `missing` of `present` known files are not there. `continuous`: this very folder was watched
    just before, so that nothing can have been unmounted, and one last file may simply be deleted.
    """
    if missing and missing == present and (missing > 1 or not continuous):
        return "every known file vanished at once"
    if missing >= MANY and missing * 2 > present:
        return f"{missing} of {present} known files vanished at once"
    return None


def _unchanged(known: KnownFile | None, file: Found) -> bool:
    return known is not None and known.present and same_file(known, file)


def _moves(
    at: Callable[[str], KnownFile | None], news: Mapping[str, Found], adrift: Mapping[Found, KnownFile]
) -> dict[str, KnownFile]:
    """New path → the known file that moved there. Its place is free, or its owner moves as well."""
    moves: dict[str, KnownFile] = {}
    taken: set[str] = set()
    for path in sorted(news):
        known = adrift.get(news[path])
        if known is not None and known.relative != path and known.relative not in taken:
            moves[path] = known
            taken.add(known.relative)
    while True:
        leaving = {known.relative for known in moves.values()}
        blocked = [path for path in moves if path not in leaving and _occupied(at(path))]
        if not blocked:
            return moves
        for path in blocked:
            del moves[path]


def _occupied(known: KnownFile | None) -> bool:
    return known is not None and known.present
