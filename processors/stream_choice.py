"""Which stream of chunks a revision is copied to, and what of it the object store has already.

The log decides. The store is asked only where the log may have forgotten (it lost its tail once) or
knows that something is wrong (a verification found damage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from processors.copies import Copies, Growth, Stream, chunk_key, fold_growth, grown, manifest_key, next_take
from processors.manifests import BadManifestError, Manifest, read_manifest
from processors.ports import ObjectStore
from processors.verifying import verify
from streams.codec import Recorded
from streams.events import ChunkUploaded, ReplicationAbandoned, ReplicationStarted
from streams.identity import growth_subject, stream_id
from streams.queries import Histories
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Chosen:
    """A stream, and what it consists of so far."""

    stream: Stream
    begun: bool
    """The video's history tells of its start."""
    known: Mapping[int, ChunkUploaded] = field(default_factory=dict)
    """The chunks that the store has, by index."""
    fixed: bool = False
    """Its chunks are known to be those of this very revision: a local file that differs is damaged."""
    sealed: bool = False
    """The store has a manifest of it that an earlier log knew of."""
    forgotten: bool = False
    """The log lost its tail once: objects may lie below the stream's prefix that no one knows of."""

    def told(self, index: int) -> bool:
        """Whether the video's history says already that the store has this chunk."""
        return self.begun and self.stream.chunks.get(index) is self.known.get(index) is not None

    def offset(self, size: int) -> int:
        """Bytes from the file's start that the store has without a gap."""
        missing = next(index for index in count() if index not in self.known)
        return min(size, missing * self.stream.chunk_size)


def is_complete(facts: Copies, store: str) -> bool:
    """Whether a whole copy of the current revision is in this store, as far as the log knows."""
    return any(
        one.revision == facts.revision and one.store == store and one.completed is not None and one.damaged is None
        for one in facts.streams.values()
    )


async def choose(
    facts: Copies,
    history: Iterable[Recorded[Any]],
    histories: Histories,
    store: ObjectStore,
    settings: Settings,
    beat: Callable[[], None],
) -> Chosen:
    """The stream for the current revision: one that was begun, one that began while the file grew, or a new one.

    `beat` is called now and then where it takes long. Raises LogUnavailableError, and what the store raises.
    """
    growths = fold_growth(await histories.history(growth_subject(facts.video))) if facts.door == "watch" else []
    forgotten = await histories.epoch() > 1
    begun = [one for one in facts.streams.values() if one.revision == facts.revision and one.store == store.label]
    if begun:
        return await _resumed(facts, begun[-1], growths, store, beat, forgotten=forgotten)
    if (growth := grown(growths, facts, store.label)) is not None and not _used(history, growth.started.stream_id):
        started = growth.started
        stream = Stream(started.stream_id, facts.revision, store.label, started.chunk_size)
        return Chosen(stream, begun=False, known=growth.chunks, forgotten=forgotten)
    return await _new(facts, history, growths, store, settings, forgotten=forgotten)


async def _resumed(
    facts: Copies,
    stream: Stream,
    growths: Iterable[Growth],
    store: ObjectStore,
    beat: Callable[[], None],
    *,
    forgotten: bool,
) -> Chosen:
    # Where the whole's hash is known it decides: a damaged file may have been sent before the right one was put back.
    immutable = facts.door != "watch" and not facts.sha256
    if stream.completed is not None:
        known = await _not_damaged(facts, stream, store, beat)
        return Chosen(stream, begun=True, known=known, fixed=True, forgotten=forgotten)
    known = dict(stream.chunks)
    for growth in growths:
        if growth.started.stream_id == stream.id:
            known = {**growth.chunks, **known}
    manifest = await _manifest(store, stream.id) if forgotten else None
    if manifest is not None and manifest.chunk_size == stream.chunk_size and _suits(manifest, facts):
        known = {**await _there(manifest, store), **known}
    return Chosen(stream, begun=True, known=known, fixed=immutable, sealed=manifest is not None, forgotten=forgotten)


async def _new(
    facts: Copies,
    history: Iterable[Recorded[Any]],
    growths: Iterable[Growth],
    store: ObjectStore,
    settings: Settings,
    *,
    forgotten: bool,
) -> Chosen:
    """A stream with an id of its own: what was sent under another may yet arrive, or yet be removed."""
    for take in count(next_take(growths, facts.revision)):
        fresh = Stream(stream_id(facts.video, facts.revision, take), facts.revision, store.label, settings.chunk_size)
        if _used(history, fresh.id):
            continue
        if not forgotten:
            return Chosen(fresh, begun=False)
        manifest = await _manifest(store, fresh.id)
        if manifest is None:
            return Chosen(fresh, begun=False, forgotten=True)
        if _suits(manifest, facts):
            found = Stream(fresh.id, facts.revision, store.label, manifest.chunk_size)
            known = await _there(manifest, store)
            return Chosen(found, begun=False, known=known, fixed=facts.door != "watch", sealed=True, forgotten=True)
    raise AssertionError("numbers do not end")


def _used(history: Iterable[Recorded[Any]], stream: str) -> bool:
    """Whether the video's history ever named this stream, whatever became of it."""
    named = (one.event for one in history if isinstance(one.event, ReplicationStarted | ReplicationAbandoned))
    return any(event.stream_id == stream for event in named)


async def _not_damaged(
    facts: Copies, stream: Stream, store: ObjectStore, beat: Callable[[], None]
) -> dict[int, ChunkUploaded]:
    """The chunks that are as they should be: looked at now, since whoever found damage named only some of it."""
    deep = stream.damaged is not None and stream.damaged.deep
    for checked in await verify(facts, store=store, drive=None, deep=deep, looking=lambda _: beat()):
        if checked.target == stream.id:
            if checked.error is not None:
                raise checked.error
            wrong = {fault.index for fault in checked.faults}
            return {index: one for index, one in stream.chunks.items() if index not in wrong}
    return {}


# ---------------------------------------------------------------- what an earlier log had sent


async def _manifest(store: ObjectStore, stream: str) -> Manifest | None:
    """A stream's manifest, where there is one that can be read."""
    data = await store.get(manifest_key(stream))
    if data is None:
        return None
    try:
        return read_manifest(data, stream)
    except BadManifestError:
        return None


def _suits(manifest: Manifest, facts: Copies) -> bool:
    """Whether a manifest may be that of the current revision; its chunks' hashes will tell for certain."""
    same = (manifest.file_size, manifest.revision) == (facts.size, facts.revision)
    return same and manifest.video in {"", facts.video} and facts.sha256 in {None, manifest.sha256}


async def _there(manifest: Manifest, store: ObjectStore) -> dict[int, ChunkUploaded]:
    """The chunks of a manifest that the store still has, by what it says of them."""
    found = {one.key: one async for one in store.list(f"{manifest.stream_id}/")}
    known = {}
    for part in manifest.parts:
        there = found.get(chunk_key(manifest.stream_id, part.index))
        if there is None or there.size != part.size or (there.etag or "") != part.etag or part.sha256 is None:
            continue
        known[part.index] = ChunkUploaded(
            revision=manifest.revision,
            stream_id=manifest.stream_id,
            index=part.index,
            offset=part.offset,
            size=part.size,
            sha256=part.sha256,
            etag=part.etag,
        )
    return known
