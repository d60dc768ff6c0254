"""Copies each revision of a video to the object store, chunk by chunk, and its manifest last.

The log says what was sent, so whoever goes on after a kill, an outage or a lost lease sends only what
it does not know of. Nothing of a stream that has no manifest counts as a copy.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from processors.copies import Copies, Stream, chunk_key, fold, manifest_bytes, manifest_key
from processors.ports import ObjectStore
from processors.storage.chunks import Chunk, Original, ShrunkError, md5_of, opened
from processors.storage.sending import Window, window
from processors.storage.threads import in_thread
from processors.stream_choice import Chosen, choose, is_complete
from streams.codec import Recorded
from streams.crashpoints import reach
from streams.errors import DependencyDownError, DrainingError, TransientError
from streams.events import (
    ChunkUploaded,
    Event,
    FileReturned,
    FileSettled,
    ReplicationAbandoned,
    ReplicationCompleted,
    ReplicationRequested,
    ReplicationStarted,
    VideoRestored,
    VideoStored,
)
from streams.paths import OsPath, escape_path
from streams.processing import Context, First, processor
from streams.queries import Histories

RETRY = 5.0
"""Seconds until the next try, where the store does not ask for another time."""

MISSING = 5.0
"""Seconds until a file that is not there is looked for again; three times as many after each try."""


class LocalFileError(TransientError):
    """The local file cannot be copied as it is; the store has nothing to do with it."""


class _ChangedError(Exception):
    """The file is no longer the one that settled: its stream will not be completed."""


@processor(
    "replicate",
    on=(VideoStored, FileSettled, FileReturned, VideoRestored, ReplicationRequested),
    needs=lambda settings: settings.s3_configured,
    concurrency=lambda settings: settings.replicate_concurrency,
)
async def replicate(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
    """Copy what the video is now, unless that was done; what is superseded is left to the later event."""
    histories = context.service(Histories)  # type: ignore[type-abstract]
    store = context.service(ObjectStore)  # type: ignore[type-abstract]
    history = await histories.history(recorded.subject)
    facts = fold(history)
    told = _Told(context, escape_path(facts.path or OsPath(recorded.subject)))
    async with told.trouble():
        for left in _left_by(recorded, history):
            await _remove_objects(store, left)
        for stream in _overtaken(facts, store.label):
            yield _abandoned(stream, "the file was removed or replaced before its copy was complete")
            reach("replicate.overtaken")
            await _remove_objects(store, stream.id)
    if facts.path is None or facts.state != "present" or is_complete(facts, store.label):
        return
    if facts.door == "rendition" and not context.settings.replicate_renditions:
        return
    if getattr(recorded.event, "revision", facts.revision) < facts.revision:
        return
    async with AsyncExitStack() as stack:
        try:
            # A link in a watched folder stands for what it points to: that file's identity is compared before it is read.
            original = await stack.enter_async_context(opened(facts.path, follow=facts.door == "watch"))
        except OSError as error:
            raise _not_opened(error, told.path, context.attempt) from error
        await stack.enter_async_context(told.trouble())
        await store.prepare()
        chosen = await choose(facts, history, histories, store, context.settings, context.beat)
        if chosen.known:
            # All of that is read and hashed first. Whoever waits for the store need not wait for it, and it need not be
            # done at every try while the store is down.
            await _ask(store, chunk_key(chosen.stream.id, 0))
            await context.answered()
        copying = _Copying(facts, chosen, original, told, context, store, histories)
        try:
            async with aclosing(copying.events()) as events:
                async for event in events:
                    yield event
        except _ChangedError as changed:
            context.log.info("a copy is given up", reason=str(changed))
            if not copying.anything_sent:
                return
            yield _abandoned(chosen.stream, str(changed))  # first in the log: it never goes on with it
            reach("replicate.abandoned")
            await _remove_objects(store, chosen.stream.id)


class _Told:
    """The log lines that users of the chunk uploader look for, to the letter."""

    def __init__(self, context: Context, path: str) -> None:
        self._context, self._log, self.path = context, context.log, path

    def starting(self, offset: int) -> None:
        self._info(f"Starting upload from offset {offset}")

    def chunk(self, stream: str, index: int) -> None:
        self._info(f"Uploading chunk: {chunk_key(stream, index)} chunk_number: {index}")

    def chunk_failed(self, stream: str, index: int) -> None:
        self._error(f"MinIO/S3 connection unavailable or error during upload_chunk {stream}, {index}")

    def completed(self) -> None:
        self._info(f"Successfully completed upload for {self.path}")

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        """Say what the store said within the block, and when it is tried again; then raise it."""
        try:
            yield
        except (DependencyDownError, TransientError) as error:
            if isinstance(error, LocalFileError):
                raise
            error.retry_after = error.retry_after or RETRY
            attempt, attempts = self._context.attempt, self._context.settings.attempts
            self._error(f"S3 error during upload of {self.path} (attempt {attempt}/{attempts}): {error}")
            if isinstance(error, DependencyDownError) or attempt < attempts:
                self._info(f"Retrying S3 upload for {self.path} in {error.retry_after:g} seconds...")
            raise

    def _info(self, line: str) -> None:
        self._log.info(line)

    def _error(self, line: str) -> None:
        self._log.error(line)


@dataclass(slots=True)
class _Copying:
    """One run over one file."""

    facts: Copies
    chosen: Chosen
    original: Original
    told: _Told
    context: Context
    store: ObjectStore
    histories: Histories
    anything_sent: bool = field(init=False)
    """There may be objects of the stream."""
    sealed: bool = field(init=False)
    """The store may have a manifest that an earlier log knew of."""
    chunks: list[ChunkUploaded] = field(init=False, default_factory=list)
    """What the manifest will list, in order."""
    sent: int = field(init=False, default=0)
    began: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.anything_sent = self.chosen.begun or bool(self.chosen.known)
        self.sealed = self.chosen.sealed

    async def events(self) -> AsyncGenerator[Event]:
        """Send what is not there yet. Raises _ChangedError where the file is no longer the one that settled."""
        facts, stream = self.facts, self.chosen.stream
        await self._check_identity()
        if not self.chosen.begun:
            reach("replicate.before_start")
            self.anything_sent = True
            yield ReplicationStarted(
                revision=facts.revision,
                stream_id=stream.id,
                store=self.store.label,
                chunk_size=stream.chunk_size,
                size=facts.size,
            )
            reach("replicate.started")
        self.told.starting(self.chosen.offset(facts.size))
        try:
            async with aclosing(self._sending()) as events:
                async for event in events:
                    yield event
        except ShrunkError as error:
            raise self._changed("it became shorter while it was read") from error
        except OSError as error:
            raise LocalFileError(f"{self.told.path} cannot be read: {error.strerror or error}") from error
        yield await self._complete()
        reach("replicate.completed")
        self.told.completed()

    # ------------------------------------------------------------ the chunks

    async def _sending(self) -> AsyncGenerator[Event]:
        stream, context = self.chosen.stream, self.context

        def failed(index: int) -> None:
            self.told.chunk_failed(stream.id, index)

        async with (
            window(self.store, context.settings.chunks_in_flight, beat=context.beat, failed=failed) as sending,
            aclosing(self.original.chunks(self.facts.size, stream.chunk_size)) as chunks,
        ):
            try:
                async for chunk in chunks:
                    context.beat()
                    await self._check_identity()
                    await self._take(chunk, sending)
                    del chunk
                    while sending.full or (context.draining.is_set() and not sending.empty):
                        yield await self._oldest(sending)
                        sending.told()
                        reach("replicate.chunk_told")
                    if context.draining.is_set():
                        raise DrainingError("the worker is stopping; this upload goes on elsewhere")
            except (_ChangedError, ShrunkError):
                await sending.settle()  # what arrived after the others were removed would stay for ever
                raise
            while not sending.empty:
                yield await self._oldest(sending)
                sending.told()
                reach("replicate.chunk_told")
            self.sent = sending.sent

    async def _take(self, chunk: Chunk, sending: Window) -> None:
        """Pass a chunk by that is there already; send any other."""
        stream, size = self.chosen.stream, len(chunk.data)
        known = self.chosen.known.get(chunk.index)
        if known is not None and (known.size, known.sha256) == (size, chunk.sha256):
            self.chunks.append(known)
            if not self.chosen.told(chunk.index):
                sending.pass_on(known)
            return
        before = known or stream.chunks.get(chunk.index)
        if self.chosen.fixed and before is not None and before.sha256 != chunk.sha256:
            raise self._damaged(f"bytes {chunk.offset} to {chunk.offset + size} are not those that were sent before")
        if self.sealed:  # a manifest must never tell of bytes that are no longer there
            await self.store.delete([manifest_key(stream.id)])
            self.sealed = False
        event = ChunkUploaded(
            revision=self.facts.revision,
            stream_id=stream.id,
            index=chunk.index,
            offset=chunk.offset,
            size=size,
            sha256=chunk.sha256,
            etag="",
        )
        self.told.chunk(stream.id, chunk.index)
        self.chunks.append(event)
        sending.send(chunk, event)

    async def _oldest(self, sending: Window) -> Event:
        event = await sending.oldest()
        await self.context.answered()
        self.chunks[event.index] = event
        return event

    # ------------------------------------------------------------ the end

    async def _complete(self) -> ReplicationCompleted:
        """Send the manifest, if the file is still what was read; the event that ends it all."""
        stream, sha256 = self.chosen.stream, self.original.sha256
        if self.facts.door != "watch" and self.facts.sha256 not in {None, "", sha256}:
            raise self._damaged(f"its sha256 is {sha256}, and was {self.facts.sha256} when it was stored")
        await self._check_identity()
        # Once more: what happened meanwhile decides, and the times in the manifest come from the log, so
        # that whoever else comes to this point writes the very same manifest.
        history = await self.histories.history(self.facts.video)
        now = fold(history)
        if now.revision != self.facts.revision or now.state == "removed":
            raise self._changed("it was removed or replaced")
        if self.chosen.forgotten:
            await self._remove_others(stream)
        created_at, completed_at = _times(history, stream.id)
        manifest = manifest_bytes(
            now, stream, self.chunks, sha256=sha256, created_at=created_at, completed_at=completed_at
        )
        manifest_sha256, md5 = await in_thread(_digests, manifest)
        reach("replicate.before_manifest")
        await self.store.put(manifest_key(stream.id), manifest, sha256=manifest_sha256, md5=md5)
        reach("replicate.manifest_sent")
        return ReplicationCompleted(
            revision=self.facts.revision,
            stream_id=stream.id,
            store=self.store.label,
            size=self.facts.size,
            sha256=sha256,
            chunk_size=stream.chunk_size,
            chunks=len(self.chunks),
            manifest_sha256=manifest_sha256,
            sent=self.sent,
            seconds=round(time.monotonic() - self.began, 3),
        )

    async def _remove_others(self, stream: Stream) -> None:
        """Remove what an earlier log had sent under this prefix and nothing lists."""
        wanted = {chunk_key(stream.id, one.index) for one in self.chunks} | {manifest_key(stream.id)}
        await self.store.delete([one.key async for one in self.store.list(f"{stream.id}/") if one.key not in wanted])

    # ------------------------------------------------------------ is it still the same file?

    async def _check_identity(self) -> None:
        """Raise where the open file is not the one that the history tells of."""
        facts, state = self.facts, await self.original.state()
        if facts.door != "watch":
            if state.size != facts.size:
                raise self._damaged(f"it has {state.size} bytes, and had {facts.size} when it was stored")
        elif state.links == 0:
            raise self._changed("it was removed, or another file took its place")
        elif (state.size, state.modified_ns, state.inode) != (facts.size, facts.modified_ns, facts.inode):
            raise self._changed("it changed after it was complete")

    def _changed(self, why: str) -> Exception:
        """A watched file that changes is another revision; a stored one that does is damaged."""
        return _ChangedError(f"{self.told.path}: {why}") if self.facts.door == "watch" else self._damaged(why)

    def _damaged(self, why: str) -> LocalFileError:
        return LocalFileError(
            f"{self.told.path} is not what it was: {why}. Nothing of it was completed; put the right file back, "
            "or restore it from another copy."
        )


# ---------------------------------------------------------------- streams that are given up


def _overtaken(facts: Copies, store: str) -> list[Stream]:
    """Streams that will never be completed: their content is gone."""
    unfinished = [one for one in facts.streams.values() if one.completed is None and one.store == store]
    return [one for one in unfinished if one.revision < facts.revision or facts.state == "removed"]


def _left_by(recorded: Recorded[Any], history: Sequence[Recorded[Any]]) -> list[str]:
    """Streams that an earlier try at this event gave up: their objects may be there yet."""
    given_up = [one for one in history if isinstance(one.event, ReplicationAbandoned)]
    return [one.event.stream_id for one in given_up if one.cause == recorded.id]


def _abandoned(stream: Stream, reason: str) -> ReplicationAbandoned:
    return ReplicationAbandoned(revision=stream.revision, stream_id=stream.id, reason=reason)


async def _ask(store: ObjectStore, key: str) -> None:
    """Raise DependencyDownError where the store does not answer; what it says of this object does not matter."""
    with suppress(TransientError):
        await store.head(key)


async def _remove_objects(store: ObjectStore, stream: str) -> None:
    keys = sorted([one.key async for one in store.list(f"{stream}/")])
    # The manifest, which says that the rest is there, goes first.
    await store.delete([manifest_key(stream)] if manifest_key(stream) in keys else [])
    await store.delete([key for key in keys if key != manifest_key(stream)])


# ---------------------------------------------------------------- small things


def _not_opened(error: OSError, path: str, attempt: int) -> LocalFileError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        why = f"{path} is not there, and no one told of its removal. Is its disk not mounted?"
    else:
        why = f"{path} cannot be opened: {error.strerror or error}"
    return LocalFileError(why, retry_after=MISSING * 3 ** (attempt - 1))


def _times(history: Sequence[Recorded[Any]], stream: str) -> tuple[str, str]:
    """When a stream began, and when the last of its chunks was there: ISO 8601, UTC."""
    steps = [one for one in history if isinstance(one.event, ReplicationStarted | ChunkUploaded)]
    times = [one.time for one in steps if one.event.stream_id == stream]
    return times[0].isoformat(timespec="milliseconds"), times[-1].isoformat(timespec="milliseconds")


def _digests(data: bytes) -> tuple[str, str]:
    return hashlib.sha256(data).hexdigest(), md5_of(data)
