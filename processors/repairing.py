"""Sends again what is missing or wrong in a stream, from whichever copy is whole.

Only what a verification named is sent: chunks from the local file or, where that is gone, from
Google Drive, each compared with the sha256 that the log knows; the manifest from the log itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from processors.comparing import MANIFEST_INDEX, Checked, digest
from processors.copies import Copies, Stream, chunk_key, fold, manifest_again, manifest_key
from processors.manifests import Part, at_once, parts_of
from processors.origins import drive_wanted
from processors.ports import Drive, ObjectStore
from processors.restoring import DamagedCopyError
from processors.storage.threads import in_thread
from processors.verifying import SOURCE, TRIES
from streams.errors import ConflictError, DependencyDownError, SpoolhouseError, TransientError
from streams.events import (
    ChunkUploaded,
    Event,
    ReplicaRepaired,
    ReplicationCompleted,
    ReplicationRequested,
)
from streams.log import Log, new_event
from streams.paths import escape_path

Source = Literal["local", "s3", "drive"]


class NoSourceError(SpoolhouseError):
    """No whole copy of what is missing is left; the message says what was looked at."""


@dataclass(slots=True)
class Resent:
    """What was sent again."""

    chunks: dict[int, ChunkUploaded] = field(default_factory=dict)
    """By index, with the ETags that they have now."""
    sources: Counter[Source] = field(default_factory=Counter)
    size: int = 0
    """Bytes."""
    refused: list[str] = field(default_factory=list)
    """What no whole copy was found of, in words."""

    @property
    def source(self) -> Source:
        """Where most of it came from; the stream itself where only its manifest was written anew."""
        return max(self.sources, key=lambda one: self.sources[one]) if self.sources else "s3"


async def repair_stream(
    log: Log, video: str, checked: Checked, *, store: ObjectStore, drive: Drive | None
) -> ReplicaRepaired:
    """Make a damaged stream whole again, and write that down.

    `checked` was written down before. Raises NoSourceError where something has no whole copy left
    (what had one was sent), DependencyDownError, TransientError, LogUnavailableError, ConflictError.
    """
    facts = fold(await log.history(video))
    stream = facts.streams.get(checked.target)
    if stream is None or stream.completed is None or stream.completed.manifest_sha256 != checked.completion:
        raise NoSourceError("it is another copy by now: verify it again")
    parts = parts_of(stream.chunks, stream.completed.size)
    if parts is None:
        raise NoSourceError(
            "the log does not hold its chunks; it is sent anew from the local file, where that is there"
        )
    await store.prepare()
    resent = await _resend(facts, stream, parts, checked, store, drive)
    new_chunks = [one for index, one in sorted(resent.chunks.items()) if one.etag != stream.chunks[index].etag]
    events: list[Event] = list(new_chunks)
    if resent.refused:
        await _append(log, video, checked, events)
        raise NoSourceError("; ".join(resent.refused[:3]))
    if new_chunks or any(fault.index == MANIFEST_INDEX for fault in checked.faults):
        completed = await _manifest(facts, stream, new_chunks, store)
        if completed.manifest_sha256 != stream.completed.manifest_sha256:
            events.append(completed)
    repaired = ReplicaRepaired(
        replica="s3",
        revision=stream.revision,
        target=stream.id,
        verification=checked.verification or facts.verifications,
        source=resent.source,
        objects=len(checked.faults),
        size=resent.size,
    )
    await _append(log, video, checked, [*events, repaired])
    return repaired


async def request_replication(log: Log, video: str, revision: int, reason: str) -> None:
    """Have the local file copied to the object store. Raises LogUnavailableError, ConflictError."""
    for attempt in range(TRIES):
        facts = fold(await log.history(video))
        event = ReplicationRequested(revision=revision, request=facts.replication_requests + 1, reason=reason)
        try:
            await log.append(new_event(video, event, source=SOURCE, expected=facts.ver))
        except ConflictError:
            if attempt == TRIES - 1:
                raise
        else:
            return


# ---------------------------------------------------------------- chunks


async def _resend(
    facts: Copies, stream: Stream, parts: Sequence[Part], checked: Checked, store: ObjectStore, drive: Drive | None
) -> Resent:
    resent = Resent()
    sources = await _sources(facts, stream, drive)
    wanted = [parts[fault.index] for fault in checked.faults if 0 <= fault.index < len(parts)]
    width = at_once(wanted)
    for start in range(0, len(wanted), width):
        jobs = (_send(stream, part, sources, store) for part in wanted[start : start + width])
        for sent in await asyncio.gather(*jobs, return_exceptions=True):
            if isinstance(sent, NoSourceError):
                resent.refused.append(str(sent))
            elif isinstance(sent, BaseException):
                raise sent
            else:
                chunk, source = sent
                resent.chunks[chunk.index] = chunk
                resent.sources[source] += 1
                resent.size += chunk.size
    return resent


Reading = tuple[Source, str, Callable[[Part], Awaitable[bytes]]]
"""A source, its name for people, and what reads a piece from it."""


async def _sources(facts: Copies, stream: Stream, drive: Drive | None) -> list[Reading]:
    """Where a chunk may be had from, best first."""
    found: list[Reading] = []
    if facts.path is not None and stream.revision == facts.revision:
        path = facts.path
        found.append(("local", escape_path(path), lambda part: in_thread(_local_bytes, path, part)))
    if drive is not None:
        for copy in facts.drive.values():
            if copy.revision == stream.revision and copy.uploaded is not None:
                try:
                    wanted = await drive_wanted(facts, copy, drive)
                except (DamagedCopyError, DependencyDownError, TransientError):
                    continue
                found.append(("drive", "Google Drive", wanted.fetch))
    return found


async def _send(
    stream: Stream, part: Part, sources: Sequence[Reading], store: ObjectStore
) -> tuple[ChunkUploaded, Source]:
    """Send one chunk from the first source that has it. Raises NoSourceError, and what the store raises."""
    tried = []
    for source, name, read in sources:
        try:
            data = await read(part)
        except (OSError, DamagedCopyError, DependencyDownError, TransientError) as error:
            tried.append(f"{name} ({getattr(error, 'strerror', None) or error})")
            continue
        sha256, md5 = await in_thread(_digests, data)
        if len(data) != part.size or sha256 != part.sha256:
            tried.append(f"{name} (it holds other bytes there)")
            continue
        etag = await store.put(chunk_key(stream.id, part.index), data, sha256=sha256, md5=md5)
        return replace(stream.chunks[part.index], etag=etag), source
    looked = ", ".join(tried) or "there is neither a local file nor a copy in Google Drive"
    raise NoSourceError(f"no whole copy of {chunk_key(stream.id, part.index)} is left: {looked}")


def _local_bytes(path: str, part: Part) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is no file")
        data = bytearray()
        while len(data) < part.size and (more := os.pread(fd, part.size - len(data), part.offset + len(data))):
            data += more
        return bytes(data)
    finally:
        os.close(fd)


def _digests(data: bytes) -> tuple[str, str]:
    return digest(data), hashlib.md5(data, usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------- the manifest


async def _manifest(
    facts: Copies, stream: Stream, new_chunks: Sequence[ChunkUploaded], store: ObjectStore
) -> ReplicationCompleted:
    """Write the manifest from the log; the completion that goes with it."""
    done = stream.completed
    now = replace(stream, chunks={**stream.chunks, **{one.index: one for one in new_chunks}})
    data = manifest_again(facts, now)
    assert done is not None
    assert data is not None, "whoever calls this has found all chunks in the log"
    sha256, md5 = await in_thread(_digests, data)
    await store.put(manifest_key(stream.id), data, sha256=sha256, md5=md5)
    return replace(done, manifest_sha256=sha256, sent=0, seconds=0.0)


async def _append(log: Log, video: str, checked: Checked, events: Sequence[Event]) -> None:
    """Append what was done. What was sent is there whatever else happened meanwhile: no version is asked for."""
    for event in events:
        # The same chunk may be repaired once more, years later: the verification tells the two apart.
        await log.append(new_event(video, event, source=SOURCE, ordinal=checked.verification or 0))
