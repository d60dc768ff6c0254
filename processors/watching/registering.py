"""From changes to events: numbers first, then the files, in batches.

What is decided from known state is appended with the version it was decided on. Where the log knows
better (another event came in between, the same event is there already) the video is folded again
from its history and its path is looked at once more.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import structlog

from processors.watching.comparing import Changes, Found, Settle, compare
from processors.watching.fitting import unserved
from processors.watching.knowing import Index, offloaded, refold, unseen_file
from processors.watching.patience import patiently
from streams.codec import Recorded, recorded
from streams.collecting import garbage_uncollected
from streams.entries import Appended, NewEvent
from streams.errors import ConflictError, GateClosedError, SpoolhouseError
from streams.events import (
    FileMoved,
    FileRemoved,
    FileReturned,
    FileSettled,
    NumbersReserved,
    RootReleased,
    VideoNumbered,
)
from streams.identity import REGISTRY, watched_video_id
from streams.keys import partition_of
from streams.log import Log, new_event
from streams.paths import OsPath, escape_path
from streams.queries import KnownFile
from streams.settings import Settings

SettledBy = Literal["lease", "stillness", "scan"]

BATCH = 500
"""Events that are appended together."""

UNDER_WAY = 2
"""Batches that wait for the log at once, where there are many."""

IDENTITIES = 10
"""Ids that are tried for one path at the most, where earlier ones belong to files that were moved away."""

HISTORIES = 16
"""Histories that are read side by side."""

SPOKEN = 20
"""Files of one batch that are logged one by one; more are counted."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Step:
    """One event to append, and what is known once it is in the log."""

    new: NewEvent
    before: KnownFile | None
    after: KnownFile
    said: str


class Registrar:
    """Appends what happened to the files of one root."""

    def __init__(self, log: Log, settings: Settings, root: str, index: Index) -> None:
        self._log, self._settings, self._root, self.index = log, settings, OsPath(root), index
        self._through: int | None = None
        self._registered: int | None = None
        """The registry's version as we know it: it never goes down but in a log that lost its tail."""
        self._numbering = asyncio.Lock()
        self._generations: dict[str, int] = {}
        self._unserved = 0

    async def register(
        self,
        changes: Changes,
        settled_by: Mapping[str, SettledBy],
        cause: Recorded[RootReleased] | None = None,
    ) -> list[str]:
        """Append changes; the paths that must be looked at again are returned.

        Waits for the log as long as it takes. `cause` is a person's answer that led to removals.
        """
        steps = [self._moved(move.known, move.relative, move.found) for move in changes.moved]
        again = await self._append(steps)
        again += await self._settle(changes.settled, settled_by)
        steps = [self._returned(back.known, back.found) for back in changes.returned]
        steps += [self._removed(known, cause) for known in changes.removed]
        return again + await self._append(steps)

    def expected(self, relative: str, found: Found) -> tuple[str, int] | None:
        """The video and the revision that a file will be once it is registered, as far as is known here.

        None where it is no new content: known as it is, or back again.
        """
        changes = compare(self.index.at, {relative: found})
        if not changes.settled:
            return None
        [settle] = changes.settled
        return self._id(settle), settle.revision

    async def identify(self, relative: str, found: Found) -> tuple[str, int] | None:
        """Like `expected`, and the log was asked whether that id belongs to a file elsewhere by now."""
        for _ in range(IDENTITIES):
            expected = self.expected(relative, found)
            if expected is None or self.index.at(relative) is not None:
                return expected
            history = await patiently(lambda: self._log.history(expected[0]))  # noqa: B023
            file = refold(history, relative)
            if file is None:
                return expected
            self._take_in(file, relative, self._generations.get(relative, 0))
        return None

    async def unexplained(self, missing: list[KnownFile]) -> list[KnownFile]:
        """Those of the missing files that were not removed by ourselves, to make room.

        Only asked of roots that opted in: it reads the history of each file that was written about.
        """
        if Path(self._root) not in self._settings.retention_watch or not missing:
            return missing
        await self._learn_anew(missing)
        return [file for file in missing if (now := self.index.at(file.relative)) is None or now.present]

    async def restored(self, relatives: Iterable[str]) -> None:
        """Learn whether offloaded files at these paths were put back by ourselves."""
        known = (self.index.at(relative) for relative in relatives)
        await self._learn_anew([file for file in known if file and offloaded(file)])

    async def _learn_anew(self, files: Sequence[KnownFile]) -> None:
        """Fold those of the files again that something was written about since."""
        versions = await patiently(lambda: self._log.versions([file.id for file in files]))
        behind = [file for file, version in zip(files, versions, strict=True) if version != file.ver]
        for start in range(0, len(behind), HISTORIES):
            part = behind[start : start + HISTORIES]
            histories = await asyncio.gather(*(patiently(partial(self._log.history, file.id)) for file in part))
            for before, history in zip(part, histories, strict=True):
                file = refold(history, before.relative)
                if file is not None and _alike(file, before):
                    before.ver = file.ver
                elif file is not None:
                    self.index.drop(before)
                    self.index.put(file)

    async def _settle(self, settled: list[Settle], settled_by: Mapping[str, SettledBy]) -> list[str]:
        """Number files and append them. While the log takes one batch, others are made ready."""
        again: list[str] = []
        parts = [settled[start : start + BATCH] for start in range(0, len(settled), BATCH)]
        ids = [{settle.relative: self._id(settle) for settle in part} for part in parts]
        numbering: deque[asyncio.Task[dict[str, int]]] = deque()
        appending: deque[asyncio.Task[list[str]]] = deque()
        try:
            for at, part in enumerate(parts):
                while len(numbering) < UNDER_WAY and at + len(numbering) < len(parts):
                    ahead = at + len(numbering)
                    new = [ids[ahead][settle.relative] for settle in parts[ahead] if not _number_of(settle)]
                    numbering.append(asyncio.create_task(self._numbers(new)))
                numbers = await numbering.popleft()
                with garbage_uncollected():
                    steps = [self._settled(settle, ids[at], numbers, settled_by[settle.relative]) for settle in part]
                if len(appending) == UNDER_WAY:
                    again += await appending.popleft()
                appending.append(asyncio.create_task(self._append(steps)))
            while appending:
                again += await appending.popleft()
        finally:
            for task in (*numbering, *appending):
                task.cancel()
        return again

    async def _append(self, steps: list[_Step]) -> list[str]:
        """Append in batches; the paths that must be looked at again."""
        again: list[str] = []
        for start in range(0, len(steps), BATCH):
            again += await self._append_batch(steps[start : start + BATCH])
        return again

    async def _append_batch(self, steps: list[_Step]) -> list[str]:
        answers = await patiently(lambda: self._log.try_append_all([step.new for step in steps]))
        again: list[str] = []
        done: list[_Step] = []
        retried: list[_Step] = []
        for step, answer in zip(steps, answers, strict=True):
            if isinstance(answer, Appended) and not answer.duplicate:
                step.after.ver = answer.ver
                if step.before is not None:
                    self.index.drop(step.before)
                self.index.put(step.after)
                done.append(step)
            elif isinstance(answer, Appended | ConflictError):
                file = await self._refold(step)
                if file and step.before and not isinstance(answer, Appended) and _alike(file, step.before):
                    # Only its version is another: a processor wrote about it. The decision stands.
                    retried.append(replace(step, new=replace(step.new, expected=file.ver)))
                elif file is None and step.before is None and isinstance(answer, ConflictError):
                    # The log lost how it began; what is left is what a processor had found out by then.
                    retried.append(replace(step, new=replace(step.new, expected=answer.actual)))
                else:
                    again += self._learn(step, file)
            else:
                raise answer
        self._say(done)
        if retried:
            again += await self._append(retried)
        return again

    async def _refold(self, step: _Step) -> KnownFile | None:
        history = await patiently(lambda: self._log.history(step.new.subject))
        return refold(history, step.before.relative if step.before else step.after.relative)

    def _learn(self, step: _Step, file: KnownFile | None) -> list[str]:
        """Take what the log says of a video; the paths that are then to be looked at."""
        path = step.after.relative
        if step.before is not None:
            self.index.drop(step.before)
        if step.before is None:
            self._take_in(file, path, step.after.generation)
        elif file is not None:
            self.index.put(file)
        return [path, *([step.before.relative] if step.before else []), *([file.relative] if file else [])]

    def _take_in(self, file: KnownFile | None, path: str, generation: int) -> None:
        """Take what the log says of the id that this generation of a path would have."""
        if file is not None:
            self.index.put(file)
        if file is None or file.relative != path:
            # That id belongs to a file that lives elsewhere by now.
            self._generations[path] = generation + 1

    async def _numbers(self, ids: list[str]) -> dict[str, int]:
        """Video → the number of its row in the legacy table, for videos that have none yet.

        Raises GateClosedError where the registry is shorter than it was: its next numbers are taken.
        """
        numbers: dict[str, int] = {}
        async with self._numbering:
            while ids:
                through, registered = await self._registry()
                news = [
                    new_event(REGISTRY, VideoNumbered(video=id), source="watch", expected=registered + at)
                    for at, id in enumerate(ids)
                ]
                answers = await patiently(lambda: self._log.try_append_all(news))  # noqa: B023
                left = []
                for id, answer in zip(ids, answers, strict=True):
                    if isinstance(answer, ConflictError):  # another root was quicker, or one before it had its number
                        self._grown_to(answer.actual)
                        left.append(id)
                    elif isinstance(answer, SpoolhouseError):
                        raise answer
                    else:
                        if not answer.duplicate:
                            self._grown_to(answer.ver)
                        numbers[id] = through + answer.ver - 1
                ids = left
        return numbers

    async def _registry(self) -> tuple[int, int]:
        """Up to which number rows were there before, and at which version the registry stands."""
        if self._through is None:
            self._through = await self._reserved()
        if self._registered is None:
            # The catalogue may know numbers that a log without its tail does not.
            highest = max((file.number for file in self.index.there()), default=0)
            self._registered = max(1, highest - self._through + 1)
            self._grown_to(await patiently(lambda: self._log.version(REGISTRY)))
        return self._through, self._registered

    def _grown_to(self, version: int) -> None:
        if self._registered is not None and version < self._registered:
            raise GateClosedError(
                f"the registry of numbers stands at version {version} and was at {self._registered}: the log lost its tail"
            )
        self._registered = version

    async def _reserved(self) -> int:
        """Up to which number rows were there before: the registry's first event says so."""
        partition = partition_of(REGISTRY, self._log.partitions)
        said = False
        while True:
            after = 0
            while entries := await patiently(lambda: self._log.read(partition, after=after)):  # noqa: B023
                for entry in entries:
                    if entry.fields.get(b"subject") == REGISTRY.encode():
                        first = recorded(partition, entry.pos, entry.fields).event
                        if isinstance(first, NumbersReserved):
                            return first.through
                after = entries[-1].pos
            if not said:
                _log.info("waiting until the numbers of older rows are reserved")
                said = True
            await asyncio.sleep(0.5)

    def _id(self, settle: Settle) -> str:
        if settle.known is not None:
            return settle.known.id
        return watched_video_id(self._root, settle.relative, self._generation(settle))

    def _generation(self, settle: Settle) -> int:
        return max(settle.generation, self._generations.get(settle.relative, 0))

    def _settled(
        self, settle: Settle, ids: Mapping[str, str], numbers: Mapping[str, int], settled_by: SettledBy
    ) -> _Step:
        known, found = settle.known, settle.found
        number = _number_of(settle) or numbers[ids[settle.relative]]
        generation = known.generation if known else self._generation(settle)
        event = FileSettled(
            root=self._root,
            relative=OsPath(settle.relative),
            number=number,
            revision=settle.revision,
            size=found.size,
            modified_ns=found.modified_ns,
            device=found.device,
            inode=found.inode,
            generation=generation,
            settled_by=settled_by,
        )
        before = known or unseen_file(ids[settle.relative], settle.relative, number, generation)
        after = _at(before, settle.relative, found, revision=settle.revision)
        new = new_event(before.id, event, source="watch", expected=before.ver)
        return _Step(new, known, after, "file settled" if settle.revision == 1 else "file replaced")

    def _moved(self, known: KnownFile, relative: str, found: Found) -> _Step:
        event = FileMoved(
            root=self._root,
            relative=OsPath(relative),
            former=OsPath(known.relative),
            move=known.moves + 1,
            size=found.size,
            modified_ns=found.modified_ns,
            device=found.device,
            inode=found.inode,
        )
        after = replace(_at(known, relative, found), moves=known.moves + 1)
        return _Step(new_event(known.id, event, source="watch", expected=known.ver), known, after, "file moved")

    def _returned(self, known: KnownFile, found: Found) -> _Step:
        event = FileReturned(
            root=self._root,
            relative=OsPath(known.relative),
            removal=known.removals,
            size=found.size,
            modified_ns=found.modified_ns,
            device=found.device,
            inode=found.inode,
        )
        after = _at(known, known.relative, found)
        return _Step(new_event(known.id, event, source="watch", expected=known.ver), known, after, "file returned")

    def _removed(self, known: KnownFile, cause: Recorded[RootReleased] | None) -> _Step:
        event = FileRemoved(root=self._root, relative=OsPath(known.relative), removal=known.removals + 1)
        after = replace(known, present=False, removals=known.removals + 1)
        new = new_event(known.id, event, source="watch", expected=known.ver, cause=cause)
        return _Step(new, known, after, "file removed")

    def _say(self, done: list[_Step]) -> None:
        for step in done[:SPOKEN]:
            path = escape_path(os.path.join(self._root, step.after.relative))
            former = {"former": escape_path(step.before.relative)} if step.said == "file moved" and step.before else {}
            _log.info(step.said, path=path, video=step.after.id, size=step.after.size, **former)
        if len(done) > SPOKEN:
            _log.info("and more files", root=escape_path(self._root), count=len(done) - SPOKEN, of=len(done))
        for step in done:
            if step.said == "file settled" and unserved(self._settings, self._root, step.after.relative):
                self._unserved += 1
                if self._unserved <= SPOKEN:
                    _log.warning(
                        "file lies outside what the web server serves; its URL will not work",
                        path=escape_path(os.path.join(self._root, step.after.relative)),
                        served=str(self._settings.served_dir),
                    )


def _alike(one: KnownFile, other: KnownFile) -> bool:
    """The same but for its version, and for device and inode, which a remount may have renumbered."""
    return replace(one, ver=0, device=0, inode=0) == replace(other, ver=0, device=0, inode=0)


def _number_of(settle: Settle) -> int:
    return settle.known.number if settle.known else 0


def _at(known: KnownFile, relative: str, found: Found, *, revision: int | None = None) -> KnownFile:
    """A known file as it was found. Written out: `dataclasses.replace` takes four times as long."""
    return KnownFile(
        id=known.id,
        ver=known.ver,
        relative=relative,
        size=found.size,
        modified_ns=found.modified_ns,
        device=found.device,
        inode=found.inode,
        revision=known.revision if revision is None else revision,
        generation=known.generation,
        number=known.number,
        present=True,
        moves=known.moves,
        removals=known.removals,
    )
