"""Where a file can be restored from: a stream in the object store, a file in Google Drive.

With the log, a copy is what the log says it is. Without it (everything but the bucket was lost) a
stream's own manifest says what it is, checked as `manifests` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from processors.comparing import RANGE, sha256_of
from processors.copies import Copies, DriveCopy, chunk_key, manifest_key
from processors.manifests import (
    MAX_MANIFEST,
    STREAM_ID,
    BadManifestError,
    Manifest,
    Part,
    parts_of,
    read_manifest,
)
from processors.ports import Drive, ObjectStore
from processors.restoring import DamagedCopyError, Wanted
from streams.errors import NotFoundError, RejectedError

SIDE_BY_SIDE = 8
"""Manifests that are read at the same time."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A stream in a bucket, as far as its objects and its manifest tell."""

    stream_id: str
    objects: int
    """Chunks that are there."""
    size: int
    """Their bytes."""
    manifest: Manifest | None
    """None: it is incomplete, or its manifest cannot be used."""
    fault: str
    """Why it cannot be restored, in words; empty: it can."""


# ---------------------------------------------------------------- with the log


async def from_stream(facts: Copies, store: ObjectStore) -> Wanted:
    """The current content from the object store. Raises DamagedCopyError saying why not, DependencyDownError."""
    stream = facts.stream(store.label)
    if stream is None or stream.completed is None:
        begun = "is not complete yet" if stream else "was never begun"
        raise DamagedCopyError(f"its copy in {store.label} {begun}")
    parts = parts_of(stream.chunks, stream.completed.size)
    if parts is None:
        manifest = await _manifest(store, stream.id)
        if manifest.digest != stream.completed.manifest_sha256:
            raise DamagedCopyError(
                f"{store.label}/{manifest_key(stream.id)} is not the manifest that was written: its sha256 is "
                f"{manifest.digest}, not {stream.completed.manifest_sha256}"
            )
        parts = manifest.parts
    return await _wanted(store, stream.id, parts, stream.completed.size, stream.completed.sha256)


async def from_drive(facts: Copies, drive: Drive) -> Wanted:
    """The current content from Google Drive. Raises DamagedCopyError saying why not, DependencyDownError.

    Where the same content was sent to the object store, each piece has its sha256 from there.
    """
    copy = facts.drive_copy()
    if copy is None or copy.uploaded is None:
        raise DamagedCopyError(f"its copy in Google Drive {'is not complete yet' if copy else 'was never begun'}")
    return await drive_wanted(facts, copy, drive)


async def drive_wanted(facts: Copies, copy: DriveCopy, drive: Drive) -> Wanted:
    """A Drive file, of whichever revision. Raises DamagedCopyError, DependencyDownError."""
    uploaded = copy.uploaded
    assert uploaded is not None
    there = await drive.get(copy.file_id)
    if there is None:
        raise DamagedCopyError(f"Google Drive has no file {copy.file_id} any more")
    if there.size != uploaded.size or (there.md5 is not None and there.md5 != uploaded.md5):
        raise DamagedCopyError(
            f"the file {copy.file_id} in Google Drive has {there.size} bytes of MD5 {there.md5}, "
            f"and not {uploaded.size} of MD5 {uploaded.md5}"
        )

    async def fetch(part: Part) -> bytes:
        data = bytearray()
        while len(data) < part.size:
            more = await drive.download(copy.file_id, part.offset + len(data), min(RANGE, part.size - len(data)))
            if not more:
                break
            data += more
        return bytes(data)

    sha256 = sha256_of(facts, copy.revision)
    return Wanted("Google Drive", uploaded.size, sha256, uploaded.md5, _drive_parts(facts, copy), fetch)


def _drive_parts(facts: Copies, copy: DriveCopy) -> Sequence[Part]:
    assert copy.uploaded is not None
    size = copy.uploaded.size
    for stream in facts.streams.values():
        if stream.revision == copy.revision and (parts := parts_of(stream.chunks, size)) is not None:
            return parts
    starts = enumerate(range(0, size, RANGE))
    return [Part(index, start, min(RANGE, size - start), None) for index, start in starts]


# ---------------------------------------------------------------- with nothing but the bucket


async def from_bucket(store: ObjectStore, stream_id: str) -> tuple[Manifest, Wanted]:
    """A stream by its own manifest. Raises DamagedCopyError, BadManifestError, DependencyDownError."""
    manifest = await _manifest(store, stream_id)
    return manifest, await _wanted(store, stream_id, manifest.parts, manifest.file_size, manifest.sha256)


async def streams_beginning(store: ObjectStore, start: str) -> str:
    """The one stream in the bucket whose id begins so.

    Raises NotFoundError, RejectedError (400) where it is no beginning of an id, or of several.
    """
    if not start or not STREAM_ID.fullmatch(start.ljust(64, "0")):
        raise RejectedError(400, f"{start!r} is no stream id: 64 hex digits, or the first of them.")
    if len(start) == 64:
        return start
    found = ""
    async for one in store.list(start):
        stream_id = one.key.partition("/")[0]
        if found and stream_id != found:
            raise RejectedError(
                400, f"More than one stream id begins with {start!r}: {found}, {stream_id} … Give more."
            )
        if STREAM_ID.fullmatch(stream_id):
            found = stream_id
    if not found:
        raise NotFoundError(f"No stream in {store.label} begins with {start!r}: --list shows what is there.")
    return found


async def listed(store: ObjectStore) -> AsyncIterator[Listed]:
    """Every stream in a bucket, complete or not, by id. Raises DependencyDownError, TransientError."""
    batch: list[_Seen] = []
    async for seen in _seen(store):
        batch.append(seen)
        if len(batch) == SIDE_BY_SIDE:
            for one in await _read_all(store, batch):
                yield one
            batch.clear()
    for one in await _read_all(store, batch):
        yield one


@dataclass(slots=True)
class _Seen:
    """What a listing shows of a stream: chunks, their bytes, and the manifest's size."""

    stream_id: str
    objects: int = 0
    size: int = 0
    manifest: int | None = None


async def _seen(store: ObjectStore) -> AsyncIterator[_Seen]:
    current: _Seen | None = None
    async for one in store.list(""):
        stream_id, _, rest = one.key.partition("/")
        if not STREAM_ID.fullmatch(stream_id):
            continue
        if current is None or current.stream_id != stream_id:
            if current is not None:
                yield current
            current = _Seen(stream_id)
        if one.key == manifest_key(stream_id):
            current.manifest = one.size
        elif rest.startswith("chunk_"):
            current.objects, current.size = current.objects + 1, current.size + one.size
    if current is not None:
        yield current


async def _read_all(store: ObjectStore, batch: Sequence[_Seen]) -> list[Listed]:
    answers = await asyncio.gather(*(_read(store, one) for one in batch), return_exceptions=True)
    found = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found


async def _read(store: ObjectStore, seen: _Seen) -> Listed:
    if seen.manifest is None:
        return Listed(seen.stream_id, seen.objects, seen.size, None, "it is incomplete: it has no manifest")
    try:
        manifest = await _manifest(store, seen.stream_id, seen.manifest)
    except (BadManifestError, DamagedCopyError) as error:
        return Listed(seen.stream_id, seen.objects, seen.size, None, str(error))
    there, wanted = (seen.objects, seen.size), (len(manifest.parts), manifest.file_size)
    fault = "" if there == wanted else "it has {} chunks of {} bytes, and should have {} of {}".format(*there, *wanted)
    return Listed(seen.stream_id, seen.objects, seen.size, manifest, fault)


async def _manifest(store: ObjectStore, stream_id: str, size: int | None = None) -> Manifest:
    key = manifest_key(stream_id)
    if size is None:
        head = await store.head(key)
        size = None if head is None else head.size
    if size is not None and size > MAX_MANIFEST:
        raise BadManifestError(f"The manifest of stream {stream_id} has {size} bytes: that is none of ours.")
    data = None if size is None else await store.get(key)
    if data is not None:
        return read_manifest(data, stream_id)
    chunks = 0
    async for _ in store.list(f"{stream_id}/"):
        chunks += 1
    if chunks:
        raise DamagedCopyError(
            f"stream {stream_id} in {store.label} is incomplete: {chunks} objects are there, and {key} is not"
        )
    raise DamagedCopyError(f"there is no stream {stream_id} in {store.label}")


async def _wanted(store: ObjectStore, stream_id: str, parts: Sequence[Part], size: int, sha256: str) -> Wanted:
    """A stream whose objects are all there, by one look at the list of them."""
    sizes: dict[str, int] = {}
    async for one in store.list(f"{stream_id}/"):
        if len(sizes) <= len(parts) * 2 + 1000:  # what else lies there is of no use
            sizes[one.key] = one.size
    faults = []
    for part in parts:
        key = chunk_key(stream_id, part.index)
        if sizes.get(key) != part.size:
            there = f"has {sizes[key]} bytes and should have {part.size}" if key in sizes else "is missing"
            faults.append(f"{key} {there}")
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise DamagedCopyError(f"in {store.label} {', '.join(faults[:3])}{more}")

    async def fetch(part: Part) -> bytes:
        key = chunk_key(stream_id, part.index)
        data = await store.get(key)
        if data is None:
            raise DamagedCopyError(f"in {store.label} {key} is missing")
        return data

    return Wanted(store.label, size, sha256, None, parts, fetch)
