"""Gives up the local copy of one video, where every copy elsewhere has just been found whole.

Its history is folded; every configured place must hold a complete copy of the current content, and
is asked for it now; the local file must be the one that was copied. Then, while no other process
gives up files:

1. the history is folded once more; the file is opened, compared, and held
2. a note of what the log must hold is made durable           → a note beside a file: it is dropped
3. VideoOffloaded is appended, at the version that was folded → a file that is not to be there: it is
4. the file is removed, its folder made durable                 removed by the next look

On the right stands what a process that dies right after a step leaves behind, and what becomes of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from processors.copies import Copies, DriveCopy, Stream, fold, manifest_key
from processors.ports import Drive, ObjectStore
from processors.storage.offloads import Offload
from processors.storage.originals import Original
from processors.storage.sidecars import Sidecars
from processors.storage.threads import in_thread
from processors.verifying import Checked, all_whole, verify, write_down
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import ConflictError, DependencyDownError, SpoolhouseError, TransientError
from streams.events import FileReturned, FileSettled, Replica, VideoOffloaded, VideoRestored, VideoStored
from streams.log import Log, new_event
from streams.paths import escape_path
from streams.settings import Settings

LOCK_WITHIN = 30.0
"""Seconds to wait for another process that gives up files."""

T = TypeVar("T")

NAMES: Mapping[Replica, str] = {"s3": "the object store", "drive": "Google Drive"}


class KeptError(SpoolhouseError):
    """A file stays; the text says why."""


class Offloader:
    """Decides about one video after the other, and acts. Places that are down are asked once only: one for each look."""

    def __init__(self, log: Log, settings: Settings, store: ObjectStore | None, drive: Drive | None) -> None:
        """`store` and `drive` as they are configured."""
        self._log, self._settings, self._store, self._drive = log, settings, store, drive
        self.places: list[Replica] = []
        """Every configured place: each must hold a whole copy."""
        if settings.s3_configured:
            self.places.append("s3")
        if settings.drive_configured:
            self.places.append("drive")
        self._sidecars = Sidecars(settings.sidecars)
        self._offloads = self._sidecars.offloads
        self._down: dict[Replica, str] = {}

    async def prepare(self) -> None:
        """See whether the store is one at all: a directory may have come to lie on the disk of the originals."""
        if self._store is not None:
            try:
                await self._store.prepare()
            except (DependencyDownError, TransientError) as error:
                self._is_down("s3", error)

    async def weigh(self, video: str, before: datetime, *, write: bool) -> int:
        """Find out whether the local copy may go; the bytes that the disk would have more.

        `before`: its content must have been there since then. `write`: what the places say goes into
        the log. Raises KeptError, NotOursError, NotThereError, TransientError, OSError: they say why
        it stays; ConflictError: decide anew.
        """
        facts = self._due(await self._log.history(video), before)
        freed = await in_thread(self._looked_at, facts)
        await self._verify(facts, write=write)
        return freed

    async def give_up(self, video: str, before: datetime) -> int:
        """Do it, right after `weigh`; the bytes that the disk has more. Raises the same."""
        async with self._alone():
            history = await self._log.history(video)
            facts = self._due(history, before)
            for place in self.places:
                copy = self._copy(facts, place)
                if copy is None or copy.verified is None:
                    raise KeptError(f"its copy in {NAMES[place]} is another one than was verified")
            assert facts.path is not None
            original = await _claimed(in_thread(Original.open, self._base(facts), facts.path), Original.close)
            try:
                await _through(in_thread(self._same, original, facts))
                await self._offload(facts, history, original)
                # From here on it is decided: what is left undone now, the next look does.
                await _through(in_thread(original.remove))
                reach("retention.removed")
                return original.freed
            finally:
                original.close()

    # ---------------------------------------------------------------- what a dead process left

    async def unfinished(self) -> list[Offload]:
        """Notes whose files still lie at their places."""
        return await in_thread(lambda: [note for note in self._offloads.all() if os.path.lexists(note.path)])

    async def weigh_unfinished(self, video: str, *, write: bool) -> bool:
        """Whether the log says that this file is offloaded: then it may go. Else the note came to nothing.

        Raises as `weigh` does.
        """
        _, facts = await self._noted(video)
        if facts is None:
            return False
        await self._verify(facts, write=write)
        return True

    async def finish(self, video: str) -> int | None:
        """Remove a file that is offloaded by the log; the bytes that the disk has more.

        None: the log does not say so (any more), and the note was dropped. Raises as `weigh` does.
        """
        async with self._alone():
            note, facts = await self._noted(video)
            if note is None or facts is None:
                await in_thread(self._drop, video)
                return None
            return await _through(in_thread(self._remove_noted, note, facts))

    async def _noted(self, video: str) -> tuple[Offload | None, Copies | None]:
        """A note, and the facts where the log says that this very offload is how things stand."""
        note = await in_thread(self._offloads.read, video)
        if note is None:
            return None, None
        facts = fold(await self._log.history(video))
        event = note.events[-1].event
        assert isinstance(event, VideoOffloaded)
        stands = facts.state == "offloaded" and facts.offloads == event.offload
        return note, facts if stands else None

    def _drop(self, video: str) -> None:
        """The offload never was, or is undone: the file there is the video's."""
        with suppress(OSError):
            self._sidecars.returned(video)
        self._offloads.forget(video)

    def _remove_noted(self, note: Offload, facts: Copies) -> int:
        self.require_opted_in(facts.door, facts.root)
        with Original.open(self._base(facts), note.path) as original:
            if not original.identity.same(note.file):
                raise KeptError("it is another one than was offloaded, and stays")
            self._require_no_writer(original)
            original.remove()
            return original.freed

    # ---------------------------------------------------------------- what must be so

    def require_opted_in(self, door: str | None, root: str | None) -> None:
        """Raise KeptError for a watched original whose root did not opt in, and for a download unless its folder did."""
        if door == "download":
            media = Path(os.path.normpath(self._settings.downloads))
            if media not in self._settings.retention_watch:
                raise KeptError(f"it is a download, and {media} is not among SPOOLHOUSE_RETENTION_WATCH")
            return
        if door == "watch" and root not in {str(one) for one in self._settings.retention_watch}:
            raise KeptError(
                f"it is a watched original, and {escape_path(root or '')} is not among SPOOLHOUSE_RETENTION_WATCH"
            )

    def _due(self, history: Sequence[Recorded[Any]], before: datetime) -> Copies:
        """What is known of a video that may go by what the log says. Raises KeptError."""
        facts = fold(history)
        if facts.state != "present" or facts.path is None:
            raise KeptError(
                "it is offloaded already" if facts.state == "offloaded" else "there is no local copy any more"
            )
        self.require_opted_in(facts.door, facts.root)
        since = _since(history, facts)
        if since is None or since > before:
            raise KeptError(
                f"its content lies there since {since:%Y-%m-%d %H:%M} UTC only" if since else "its age is unknown"
            )
        if not self.places:
            raise KeptError(
                "no copy elsewhere is configured (SPOOLHOUSE_S3_ENDPOINT, DRIVE_FOLDER_ID): it is the only one"
            )
        for place in self.places:
            _require_complete(facts, place, self._copy(facts, place))
        stream = self._copy(facts, "s3")
        if self._store is not None and isinstance(stream, Stream) and stream.store != self._store.label:
            raise KeptError(f"its copy lies in {stream.store}, and not in {self._store.label}, which is configured now")
        return facts

    def _looked_at(self, facts: Copies) -> int:
        """Look at the local file; the bytes that removing it frees. Blocks."""
        assert facts.path is not None
        with Original.open(self._base(facts), facts.path) as original:
            self._same(original, facts)
            return original.freed

    def _same(self, original: Original, facts: Copies) -> None:
        """Raise KeptError unless this is the file that was copied, and no one writes to it. Blocks.

        Size, inode and mtime are compared with what was known when it was complete: whoever writes
        to a file changes its mtime. Only where they differ the content is read: a file that was
        restored, or put back from a backup, is another one with the same bytes.
        """
        now = original.identity
        if now.size != facts.size:
            raise KeptError(f"the file has {now.size} bytes, and {facts.size} were copied")
        self._require_no_writer(original)
        if facts.door == "watch":
            same = (now.inode, now.modified_ns) == (facts.inode, facts.modified_ns)
        else:
            sidecar = self._sidecars.get(facts.video)
            same = sidecar is not None and now.inode == sidecar.inode and _modified(now.modified_ns, sidecar.event)
        if not same and (facts.sha256 is None or original.sha256() != facts.sha256):
            raise KeptError("the file is not the one that was copied")

    def _require_no_writer(self, original: Original) -> None:
        writer = original.written_to()
        still = time.time() - original.identity.modified_ns / 1e9 > self._settings.watch_still_after
        if writer or (writer is None and not still):
            raise KeptError("someone has the file open for writing")

    def _base(self, facts: Copies) -> Path:
        """The folder that a file must lie in to be ours."""
        if facts.door == "watch" and facts.root:
            return Path(facts.root)
        return self._settings.home_of(facts.door or "upload") or self._settings.uploads

    async def _verify(self, facts: Copies, *, write: bool) -> None:
        """Ask every configured place for its copy. Raises KeptError, ConflictError, TransientError."""
        for place in self.places:
            _require_complete(facts, place, self._copy(facts, place))
            if place in self._down:
                raise KeptError(self._down[place])
        checked: list[Checked] = []
        if "s3" in self.places:
            deep = await self._keeps_no_checksums(facts)
            checked += await verify(facts, store=self._store, drive=None, deep=deep)
        if "drive" in self.places:
            checked += await verify(facts, store=None, drive=self._drive, deep=False)
        checked = [one for one in checked if one.revision == facts.revision]
        if write:
            await write_down(self._log, facts, checked)
        for one in checked:
            if isinstance(one.error, DependencyDownError):
                raise KeptError(self._is_down(one.replica, one.error))
            if one.state != "whole":
                why = one.reason or "; ".join(map(str, one.faults[:3]))
                raise KeptError(f"its copy in {NAMES[one.replica]} is {one.state}: {why}")
        if not all_whole(facts, checked, self.places):
            raise KeptError("not every copy could be verified")

    async def _keeps_no_checksums(self, facts: Copies) -> bool:
        """Whether the store's list tells nothing but sizes (a directory): then the bytes are read."""
        stream = self._copy(facts, "s3")
        assert isinstance(stream, Stream)
        assert self._store is not None
        try:
            manifest = await self._store.head(manifest_key(stream.id))
        except DependencyDownError as error:
            raise KeptError(self._is_down("s3", error)) from error
        return manifest is not None and not manifest.etag

    def _copy(self, facts: Copies, place: Replica) -> Stream | DriveCopy | None:
        """The copy of the current content in a place: of several object stores, in the one that is configured."""
        if place == "drive":
            return facts.drive_copy()
        return facts.stream(self._store.label if self._store is not None else None)

    def _is_down(self, replica: Replica, error: Exception) -> str:
        self._down[replica] = f"its copy could not be verified: {error}"
        return self._down[replica]

    # ---------------------------------------------------------------- the step that counts

    async def _offload(self, facts: Copies, history: Iterable[Recorded[Any]], original: Original) -> None:
        event = VideoOffloaded(
            revision=facts.revision,
            path=original.path,
            size=facts.size,
            replicas=tuple(self.places),
            offload=facts.offloads + 1,
        )
        new = new_event(facts.video, event, source="retention", expected=facts.ver)
        await _through(in_thread(self._offloads.write, Offload.of(original.path, original.identity, history, new)))
        reach("retention.noted")
        try:
            placed = await self._log.append(new)
        except ConflictError:
            await in_thread(self._offloads.forget, facts.video)
            raise
        if placed.duplicate:  # an earlier append whose answer had not come: what it says is folded first
            raise ConflictError(facts.video, facts.ver, placed.ver)
        reach("retention.appended")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No other process gives up files during the body. Raises KeptError, OSError."""
        deadline = time.monotonic() + LOCK_WITHIN
        while (fd := await _claimed(in_thread(self._offloads.lock), _unlock)) is None:
            if time.monotonic() > deadline:
                raise KeptError("another process is giving up files just now: the next look decides")
            await asyncio.sleep(0.05)
        try:
            yield
        finally:
            os.close(fd)


def _require_complete(facts: Copies, place: Replica, copy: Stream | DriveCopy | None) -> None:
    """Raise KeptError unless the log knows a complete copy of the current content there, and no fault of it."""
    where = NAMES[place]
    if copy is None or copy.completed is None:
        raise KeptError(f"there is no complete copy in {where} yet")
    if copy.damaged is not None:
        # What a deep look found, a shallow one may overlook.
        raise KeptError(f"its copy in {where} is damaged: `spoolhouse verify {facts.video} --repair` sends it again")
    if copy.completed.size != facts.size:
        raise KeptError(f"its copy in {where} has {copy.completed.size} bytes, and the file {facts.size}")
    sha256 = getattr(copy.completed, "sha256", None)
    if sha256 is not None and facts.sha256 is not None and sha256 != facts.sha256:
        raise KeptError(f"its copy in {where} has another content")


def _since(history: Iterable[Recorded[Any]], facts: Copies) -> datetime | None:
    """Since when the current content lies where it lies: received, first seen, or brought back."""
    since: datetime | None = None
    for recorded in history:
        match recorded.event:
            case VideoStored() as event:
                since = event.received_at
            case FileSettled() as event if event.revision == facts.revision:
                since = recorded.time
            case FileReturned() | VideoRestored():
                since = recorded.time
    return since


def _modified(modified_ns: int, event: VideoStored) -> bool:
    """Whether an mtime is that of the manifest, which holds it to the microsecond."""
    return abs(modified_ns / 1e9 - event.modified_at.timestamp()) < 1e-3


def _unlock(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)


async def _through(job: asyncio.Future[T]) -> T:
    """What a thread answers. Whoever is cancelled meanwhile still waits: the thread uses what would be closed."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.gather(job, return_exceptions=True)
        raise


async def _claimed(job: asyncio.Future[T], release: Callable[[T], None]) -> T:
    """What a thread opens; released where whoever wanted it is cancelled meanwhile."""
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        with suppress(Exception):
            release(await job)
        raise
