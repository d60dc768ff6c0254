"""Looks at one copy: a stream in the object store, a file in Google Drive. See `verifying`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from processors.copies import Copies, DriveCopy, Stream, chunk_key, manifest_again, manifest_key
from processors.manifests import MAX_MANIFEST, BadManifestError, Part, at_once, parts_of, read_manifest
from processors.ports import Drive, ObjectStore, StoredObject
from processors.storage.threads import in_thread
from streams.errors import SpoolhouseError
from streams.events import Replica

RANGE = 8 * 2**20
"""Bytes that are asked of Drive at once."""

ORPHANS = 100
"""Objects without a place in their stream that are named."""

MANIFEST_INDEX = -1

State = Literal["whole", "damaged", "incomplete", "absent", "unchecked"]
"""`incomplete`: begun, not finished. `absent`: nothing was begun in a place that is configured.
`unchecked`: it could not be asked."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is missing or wrong."""

    key: str
    """The object's, or the Drive file's id."""
    expected: str
    """In words."""
    found: str | None
    """In words; None: nothing is there."""
    index: int = MANIFEST_INDEX
    """The chunk's; MANIFEST_INDEX: the manifest, or a Drive file."""

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}, found {self.found or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one copy."""

    replica: Replica
    revision: int
    target: str
    """The stream id, or the Drive file's id; empty where nothing was begun."""
    state: State
    deep: bool
    objects: int = 0
    """How many were looked at."""
    size: int = 0
    """Their bytes, as they should be."""
    faults: tuple[Fault, ...] = ()
    orphans: tuple[str, ...] = ()
    """Keys below the stream's prefix that belong to nothing; the first hundred. No fault of the copy."""
    reason: str = ""
    """Why it is not whole, where no fault says it."""
    error: SpoolhouseError | None = None
    """Why it could not be checked."""
    verification: int | None = None
    """Its number, once it is written down."""
    completion: str = ""
    """Which completion was looked at: another one since makes this look worthless."""


Looking = Callable[[int], None]
"""Told how many objects more were looked at: beats, progress bars."""


# ---------------------------------------------------------------- the object store


async def stream_checked(facts: Copies, stream: Stream, store: ObjectStore, deep: bool, looking: Looking) -> Checked:
    """What there is of a stream. Raises DependencyDownError, TransientError."""
    plain = Checked("s3", stream.revision, stream.id, "incomplete", deep)
    done = stream.completed
    if done is None:
        return replace(plain, reason=f"it is not complete: {len(stream.chunks)} chunks were sent, and no manifest yet")
    prefix, manifest = f"{stream.id}/", manifest_key(stream.id)
    parts = parts_of(stream.chunks, done.size)
    wanted = {chunk_key(stream.id, index) for index in range(done.chunks)} | {manifest}
    found: dict[str, StoredObject] = {}
    orphans: list[str] = []
    async for one in store.list(prefix):
        if one.key in wanted:
            found[one.key] = one
        elif len(orphans) < ORPHANS:
            orphans.append(one.key)
    if done.store != store.label and not found:
        return replace(
            plain, state="absent", reason=f"there is no copy in {store.label}: it was copied to {done.store}"
        )
    plain = replace(plain, objects=done.chunks + 1, size=done.size, orphans=tuple(orphans))

    from_manifest: tuple[Part, ...] | None = None
    faults: list[Fault] = []
    if deep or not await in_thread(_as_the_log_has_it, facts, stream, found.get(manifest)):
        faults, from_manifest = await _manifest_checked(stream, store, found.get(manifest), done.manifest_sha256)
    parts = parts or from_manifest
    looking(1)
    if parts is None:
        reason = "the log does not hold its chunks, and without the manifest nothing says what they should be"
        return replace(plain, state="damaged", faults=tuple(faults), reason=reason)
    async for fault in _parts_checked(stream, store, parts, found, deep, looking):
        faults.append(fault)
    return replace(plain, state="damaged" if faults else "whole", faults=tuple(faults))


def _as_the_log_has_it(facts: Copies, stream: Stream, found: StoredObject | None) -> bool:
    """Whether the store's checksum of a manifest is that of the very bytes that the log says were written."""
    if found is None or not found.etag or stream.completed is None:
        return False
    data = manifest_again(facts, stream)
    if data is None or digest(data) != stream.completed.manifest_sha256:
        return False
    return (found.size, found.etag) == (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())


async def _manifest_checked(
    stream: Stream, store: ObjectStore, found: StoredObject | None, sha256: str
) -> tuple[list[Fault], tuple[Part, ...] | None]:
    """What is wrong with a manifest, and the chunks that it names where nothing is."""
    key, expected = manifest_key(stream.id), f"a manifest of sha256 {sha256}"
    data = None
    if found is not None:
        if found.size > MAX_MANIFEST:
            return [Fault(key, expected, f"{found.size} bytes")], None
        data = await store.get(key)
    if data is None:
        return [Fault(key, expected, None)], None
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        return [Fault(key, expected, f"{len(data)} bytes of sha256 {actual}")], None
    try:
        return [], read_manifest(data, stream.id).parts
    except BadManifestError as error:
        return [Fault(key, expected, str(error))], None


async def _parts_checked(
    stream: Stream,
    store: ObjectStore,
    parts: Sequence[Part],
    found: dict[str, StoredObject],
    deep: bool,
    looking: Looking,
) -> AsyncIterator[Fault]:
    """The faults of a stream's chunks, in order."""
    to_read: list[Part] = []
    for part in parts:
        key = chunk_key(stream.id, part.index)
        there = found.get(key)
        if there is None:
            yield Fault(key, f"{part.size} bytes", None, part.index)
        elif there.size != part.size:
            yield Fault(key, f"{part.size} bytes", f"{there.size} bytes", part.index)
        elif deep or (there.etag and part.etag and there.etag != part.etag):
            # Another ETag may only mean that someone moved the bucket: its bytes tell.
            to_read.append(part)
            continue
        looking(1)
    width = at_once(to_read)
    for start in range(0, len(to_read), width):
        batch = to_read[start : start + width]
        reads = await asyncio.gather(*(_part_read(stream, store, part) for part in batch), return_exceptions=True)
        looking(len(batch))
        for read in reads:
            if isinstance(read, BaseException):
                raise read
            if read is not None:
                yield read


async def _part_read(stream: Stream, store: ObjectStore, part: Part) -> Fault | None:
    key = chunk_key(stream.id, part.index)
    data = await store.get(key)
    if data is None:
        return Fault(key, f"{part.size} bytes", None, part.index)
    actual = await in_thread(digest, data)
    if len(data) != part.size or actual != part.sha256:
        expected = f"{part.size} bytes of sha256 {part.sha256}"
        return Fault(key, expected, f"{len(data)} bytes of sha256 {actual}", part.index)
    return None


# ---------------------------------------------------------------- Google Drive


async def drive_checked(facts: Copies, copy: DriveCopy, drive: Drive, deep: bool, looking: Looking) -> Checked:
    """What there is of a Drive file. Raises DependencyDownError, TransientError."""
    plain = Checked("drive", copy.revision, copy.file_id, "incomplete", deep, objects=1)
    done = copy.completed
    if done is None:
        sent = "all of it was sent, but it is not shared yet" if copy.uploaded else f"{copy.offset} bytes were sent"
        return replace(plain, reason=f"it is not complete: {sent}")
    plain = replace(plain, size=done.size)
    expected = f"{done.size} bytes of MD5 {done.md5}"
    there = await drive.get(copy.file_id)
    looking(1)
    fault = None
    if there is None:
        fault = Fault(copy.file_id, expected, None)
    elif there.trashed:
        fault = Fault(copy.file_id, expected, "it in the trash")
    elif there.size != done.size or (there.md5 is not None and there.md5 != done.md5):
        fault = Fault(copy.file_id, expected, f"{there.size} bytes of MD5 {there.md5}")
    elif deep:
        md5, sha256 = await _drive_digests(drive, copy.file_id, done.size, looking)
        known = sha256_of(facts, copy.revision)
        if md5 != done.md5 or (known is not None and sha256 != known):
            fault = Fault(copy.file_id, f"{expected}, sha256 {known}", f"MD5 {md5}, sha256 {sha256}")
    elif there.md5 is None:
        return replace(plain, state="unchecked", reason="Drive has not computed its MD5 yet: ask again later")
    if fault is not None:
        return replace(plain, state="damaged", faults=(fault,))
    return replace(plain, state="whole")


async def _drive_digests(drive: Drive, file_id: str, size: int, looking: Looking) -> tuple[str, str]:
    """MD5 and sha256 of a Drive file, read range by range."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    offset = 0
    while offset < size:
        data = await drive.download(file_id, offset, min(RANGE, size - offset))
        if not data:
            break
        await in_thread(_update, (md5, sha256), data)
        offset += len(data)
        looking(0)
    return md5.hexdigest(), sha256.hexdigest()


def digest(data: bytes) -> str:
    """sha256 in hex. Blocks: in a thread for chunks."""
    return hashlib.sha256(data).hexdigest()


def _update(digests: Iterable[Any], data: bytes) -> None:
    for digest in digests:
        digest.update(data)


def sha256_of(facts: Copies, revision: int) -> str | None:
    """The sha256 of a revision's whole content, where the log knows it."""
    if revision == facts.revision and facts.sha256 is not None:
        return facts.sha256
    streams = (one.completed for one in facts.streams.values() if one.revision == revision)
    return next((one.sha256 for one in streams if one is not None), None)
