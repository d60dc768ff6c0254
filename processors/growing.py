"""Copies files that are still being written (recordings) to the object store, some way behind their writers.

A part of a watched root, and so under its lease: one process does it. Whole chunks go up in order, one
of a file at a time, as long as they lie `growing_behind` bytes behind the file's end; what was sent
stands in the log (`growths`), so the next owner goes on with the next chunk. Once the file is
complete it is registered, and the replication reads it once more, sends what is missing or was
rewritten meanwhile, and writes the manifest.

**No chunk of old may come late.** Writers go back: an mp4's first chunk is rewritten when it is
closed, and the replication then sends it anew under the same key. A request of ours that arrives
after that would put the former bytes back, and nobody would notice. So a file is registered only
after its stream was *ended* here (`unfinished` says "not yet" until then):

1. The task that sends the file is told to stop, and its last request gets LAST_REQUEST seconds to
   come to an end. A request that was given up has no known end: its bytes may be in some buffer,
   and be applied at any time. No timeout changes that; nor does it for a worker that was killed.
2. Therefore each request is written down, with the hash of its bytes, before it is made. A
   request without a known end is harmless if the file still holds the same bytes at that place: what
   comes late is then what is there. It is read again and compared.
3. If it differs, the stream is abandoned, and the replication begins another one, under other keys.
   That costs what had been sent, and takes a request that was lost *and* whose chunk was rewritten.
4. The end of the stream is an event, too. A worker that was suspended and still takes itself for
   the owner finds the subject at another version when it wants to write down its next request.
   One that it had written down before is known by its hash.

A store that is down costs nothing but the copy's progress: each file has a task of its own, and
no request of another file, nor any registration, waits for it longer than the bound above.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from processors.copies import Growth, chunk_key, fold
from processors.growths import Journal, open_journal
from processors.ports import ObjectStore
from processors.watching.comparing import Found
from processors.watching.parts import folder_device, read_part, vanished
from processors.watching.patience import patiently
from processors.watching.registering import Registrar
from processors.watching.threads import Threads
from streams.background import stop_if_cancelled
from streams.crashpoints import reach
from streams.errors import ConflictError, DependencyDownError, TransientError
from streams.identity import growth_subject
from streams.log import Log
from streams.paths import OsPath, escape_path
from streams.settings import Settings

SIDE_BY_SIDE = 4
"""Chunks that are read and sent at once, of whatever files: each takes its size of memory."""

FOLLOWED = 256
"""Growing files that are followed at once; more are copied when they are complete."""

LAST_REQUEST = 5.0
"""Seconds that a file which is complete waits for the request that is on its way."""

PAUSE = 5.0
"""Seconds until a store that failed is tried again."""

ENDING = 16
"""Streams that are ended side by side."""

TRIES = 10
"""Times that an ending begins anew because someone else wrote first."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _File:
    """A file that someone writes to."""

    relative: str
    found: Found
    """As it was last seen."""
    gone: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    journal: Journal | None = None
    revision: int = 0
    """Which one of the journal's video it is taken for."""

    async def changes(self) -> None:
        """Wait until more is known of it, or until it is to be left alone."""
        if not self.stopping.is_set():
            await self.news.wait()
        self.news.clear()

    async def stops_within(self, seconds: float) -> bool:
        """Wait; True as soon as it is to be left alone."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Let it end after the request that is under way."""
        self.stopping.set()
        self.news.set()


class GrowingFiles:
    """The growing files of one root; see `watching.growth.Growing`."""

    def __init__(self, log: Log, settings: Settings, store: ObjectStore, root: OsPath, registrar: Registrar) -> None:
        self._log, self._settings, self._store = log, settings, store
        self._root, self._registrar = root, registrar
        self._files: dict[str, _File] = {}
        self._endings: dict[str, tuple[Found, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._room = asyncio.Semaphore(SIDE_BY_SIDE)
        self._ending = asyncio.Semaphore(ENDING)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Files are followed while the body runs."""
        self._threads = Threads(escape_path(self._root))
        self._spawn(self._tidy_up())
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._threads.close()

    # ------------------------------------------------------------ what the watcher tells

    def told(self, relative: str, found: Found) -> None:
        """Someone is writing to a file."""
        file = self._files.get(relative)
        if file is None:
            enough = found.size >= self._settings.chunk_size + self._settings.growing_behind
            ending = self._endings.get(relative)
            if not enough or len(self._files) >= FOLLOWED or (ending and not ending[1].done()):
                return
            self._endings.pop(relative, None)  # it was opened once more
            file = self._files[relative] = _File(relative, found)
            file.task = self._spawn(self._follow(file))
        file.found, file.gone = found, False
        file.news.set()

    def went(self, relative: str) -> None:
        """A path is not being written any more."""
        self._endings.pop(relative, None)
        if file := self._files.get(relative):
            file.gone = True
            file.news.set()

    async def unfinished(self, settled: Mapping[str, Found]) -> set[str]:
        """Complete files whose streams have not come to their end yet."""
        waiting: set[str] = set()
        asked: dict[str, tuple[str, int]] = {}
        for relative, found in settled.items():
            ended_for, ending = self._endings.get(relative, (None, None))
            if ending is not None and not ending.done():
                waiting.add(relative)
                continue
            self._endings.pop(relative, None)
            if ended_for != found and (expected := self._registrar.expected(relative, found)):
                asked[relative] = expected
        versions = await patiently(lambda: self._log.versions([growth_subject(video) for video, _ in asked.values()]))
        for relative, version in zip(asked, versions, strict=True):
            if version or relative in self._files:
                found = settled[relative]
                self._endings[relative] = (found, self._spawn(self._end(relative, found)))
                waiting.add(relative)
        return waiting

    # ------------------------------------------------------------ one file

    async def _follow(self, file: _File) -> None:
        """Copy a file while it grows. What fails here costs time only: the replication does what is left."""
        path = escape_path(f"{self._root}/{file.relative}")
        try:
            await self._copy(file)
        except ConflictError as error:
            _log.info("growing file: someone else went on with it", path=path, reason=str(error))
        except Exception as error:  # noqa: BLE001 # whatever it is, the root is watched on
            _log.warning("growing file is copied once it is complete", path=path, reason=str(error) or repr(error))
            while not (file.gone or file.stopping.is_set()):
                await file.changes()
        finally:
            if self._files.get(file.relative) is file:
                del self._files[file.relative]

    async def _copy(self, file: _File) -> None:
        identity = await self._registrar.identify(file.relative, file.found)
        if identity is None:
            return
        video, revision = identity
        device = await self._threads.run(folder_device, self._root, file.relative)
        journal = file.journal = await open_journal(self._log, video)
        file.revision = revision
        growth, asked, refusals = journal.current(revision), False, 0
        while not file.stopping.is_set():
            stop_if_cancelled()
            if file.gone and not await self._threads.run(vanished, self._root, file.relative, device or -1):
                return
            if growth is not None and (reason := self._over(growth, file.found, gone=file.gone)):
                await self._give_up(file, journal, growth, reason)
                growth = None
                continue
            if file.gone:
                return
            size = growth.started.chunk_size if growth else self._settings.chunk_size
            index = len(growth.chunks) if growth else 0
            if (index + 1) * size + self._settings.growing_behind > file.found.size:
                await file.changes()
                continue
            if growth is None:
                growth = await journal.start(
                    self._root,
                    file.relative,
                    revision,
                    file.found,
                    store=self._store.label,
                    chunk_size=size,
                )
            if not asked:
                asked = await self._reachable(file, growth, index)
                continue
            try:
                sent = await self._send(file, journal, growth, index)
            except (DependencyDownError, TransientError) as error:
                refusals += isinstance(error, TransientError)
                if refusals >= self._settings.attempts:
                    raise
                asked = await self._reachable(file, growth, index, error)
            else:
                if sent:
                    refusals = 0
                else:
                    await file.changes()

    async def _send(self, file: _File, journal: Journal, growth: Growth, index: int) -> bool:
        """Send a chunk; False where it is not all there yet. Raises what the store raises."""
        started, size = growth.started, growth.started.chunk_size
        async with self._room:
            part = await self._threads.run(read_part, self._root, file.relative, index * size, size)
            if part is None or file.gone:
                return file.gone
            same = (part.found.device, part.found.inode) == (started.device, started.inode)
            if not same or part.found.size < (index + 1) * size + self._settings.growing_behind:
                file.found = part.found
                return True
            await journal.dispatch(growth, index, part.sha256)
            reach("growing.dispatched")
            key = chunk_key(started.stream_id, index)
            _log.info(f"Uploading chunk: {key} chunk_number: {index}", path=self._shown(file))
            etag = await self._store.put(key, part.data, sha256=part.sha256, md5=part.md5)
            reach("growing.sent")
            await journal.uploaded(growth, index, size, part.sha256, etag)
            reach("growing.recorded")
        return True

    async def _reachable(self, file: _File, growth: Growth, index: int, error: Exception | None = None) -> bool:
        """Wait until the store answers; False where the file was to be left alone before that.

        A chunk is not sent to find out: each request that fails is one that may come late.
        """
        id, said = growth.started.stream_id, False
        while True:
            stop_if_cancelled()
            if error is not None:
                asked_for = getattr(error, "retry_after", None)
                pause = PAUSE if asked_for is None else asked_for
                if not said:
                    words = f"MinIO/S3 connection unavailable or error during upload_chunk {id}, {index}"
                    _log.warning(words, path=self._shown(file), error=str(error))
                    _log.info(f"Retrying S3 upload for {self._shown(file)} in {pause:g} seconds...")
                    said = True
                if await file.stops_within(pause):
                    return False
            try:
                await self._store.prepare()
                await self._store.head(chunk_key(id, index))
            except DependencyDownError as failure:
                error = failure
                continue
            except TransientError:
                pass  # it answers; some give no answer about what is not there
            _log.info(f"Starting upload from offset {index * growth.started.chunk_size}", path=self._shown(file))
            return True

    def _over(self, growth: Growth, found: Found, *, gone: bool = False) -> str | None:
        """Why nothing can come of a stream; None where it goes on."""
        started = growth.started
        sent = max((one.index + 1 for one in growth.requests), default=0) * started.chunk_size
        if gone:
            return "the file went away"
        if started.store != self._store.label:
            return f"copies go to {self._store.label} now"
        if (started.device, started.inode) != (found.device, found.inode):
            return "another file took its place"
        if found.size < sent:
            return f"the file shrank to {found.size} bytes"
        return None

    async def _give_up(self, file: _File, journal: Journal, growth: Growth, reason: str) -> None:
        """Say so, then remove what was sent: whoever goes on with this file never counts on what is being removed."""
        _log.info("growing file: what was sent of it is removed", path=self._shown(file), reason=reason)
        await journal.abandon(growth, reason)
        self._spawn(self._remove(growth))

    async def _removed(self, growth: Growth, *, looking: bool) -> bool:
        """Remove what may be there of a stream; False where the store cannot do it just now."""
        if growth.started.store != self._store.label:
            return True
        keys = [chunk_key(growth.started.stream_id, index) for index in sorted({one.index for one in growth.requests})]
        try:
            if looking and not [one async for one in self._store.list(f"{growth.started.stream_id}/")]:
                return True
            await self._store.delete(keys)
        except (DependencyDownError, TransientError) as error:
            _log.debug("chunks cannot be removed yet", stream=growth.started.stream_id, error=str(error))
            return False
        return True

    # ------------------------------------------------------------ the end of a stream

    async def _end(self, relative: str, found: Found) -> None:
        """A file is complete: let no one send anything of it any more, and say what of it is good."""
        async with self._ending:
            # The file that had this path before may have been moved away: then this is another video.
            video, revision = await self._registrar.identify(relative, found) or ("", 0)
            if file := self._files.pop(relative, None):
                file.stop()
                assert file.task is not None
                await asyncio.wait({file.task}, timeout=LAST_REQUEST)
                file.task.cancel()
                await asyncio.gather(file.task, return_exceptions=True)
                if file.journal is not None and file.journal.video != video:
                    why = "it became another video"
                    await self._end_stream(relative, found, file.journal.video, file.revision, useless=why)
            if video:
                await self._end_stream(relative, found, video, revision)

    async def _end_stream(
        self, relative: str, found: Found, video: str, revision: int, *, useless: str | None = None
    ) -> None:
        """End what was begun of a revision; `useless` says why none of it may be gone on with."""
        for _ in range(TRIES):
            journal = await open_journal(self._log, video)
            if fold(await patiently(lambda: self._log.history(video))).revision >= revision:
                return  # it is registered: what was sent is a copy by now, or will be one
            try:
                for growth in journal.growths:
                    if growth.abandoned or growth.started.revision != revision:
                        continue
                    reason = useless or self._over(growth, found)
                    if reason := reason or await self._changed(relative, growth):
                        await journal.abandon(growth, reason)
                        self._spawn(self._remove(growth))
                    else:
                        await journal.end(growth, found.size)
            except ConflictError:
                continue
            reach("growing.ended")
            return
        _log.warning("growing file: others keep writing about it", path=escape_path(f"{self._root}/{relative}"))

    async def _changed(self, relative: str, growth: Growth) -> str | None:
        """Why what may yet arrive would do harm; None where it would not."""
        size = growth.started.chunk_size
        doubtful = growth.doubtful()
        for index in sorted({one.index for one in doubtful}):
            part = await self._threads.run(read_part, self._root, relative, index * size, size)
            if part is None or any(one.sha256 != part.sha256 for one in doubtful if one.index == index):
                return f"chunk {index} was rewritten, and a request with its former content may yet arrive"
        return None

    async def _remove(self, growth: Growth, *, looking: bool = False) -> None:
        """Remove what was sent, however long that takes. `looking`: most likely nothing is there any more."""
        while not await self._removed(growth, looking=looking):
            stop_if_cancelled()
            await asyncio.sleep(PAUSE)

    async def _tidy_up(self) -> None:
        """Remove what was sent of files that went away while nobody watched, and what another run left of that."""
        for subject in await patiently(lambda: self._log.subjects(growth_subject(""))):
            stop_if_cancelled()
            if (await patiently(lambda: self._log.checkpoint(subject))).get("growing") not in {"yes", "over"}:  # noqa: B023
                continue
            journal = await open_journal(self._log, subject.removeprefix(growth_subject("")))
            for growth in journal.growths:
                started = growth.started
                if started.root != self._root or (growth.ended and not growth.abandoned):
                    continue
                if not (before := growth.abandoned):
                    if not await self._threads.run(vanished, self._root, started.relative, started.device):
                        continue
                    try:
                        await journal.abandon(growth, "the file went away")
                    except ConflictError:
                        break  # it is there again, and dealt with
                await self._remove(growth, looking=before)

    # ------------------------------------------------------------ small helpers

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("copying growing files failed", error=repr(error), exc_info=error)

    def _shown(self, file: _File) -> str:
        return escape_path(f"{self._root}/{file.relative}")
