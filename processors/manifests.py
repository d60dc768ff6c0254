"""Reads `<stream_id>/metadata.json`, which comes from outside: nothing in it is believed unchecked.

What `read_manifest` gives back has dense chunks that add up to the file, and keys that follow from
the stream and the index alone. Its file name is still only a name: `safe_file_name` makes it one
that stays in the folder where it is put.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from processors.copies import chunk_key
from processors.storage.names import safe_name
from streams.errors import SpoolhouseError
from streams.events import ChunkUploaded
from streams.paths import unescape_path

MAX_MANIFEST = 64 * 2**20
"""Bytes: one of 250,000 chunks, 2.5 TB in chunks of 10 MiB, stays below."""

MAX_CHUNK = 512 * 2**20
"""Bytes that a chunk may have: each takes its size of memory."""

MAX_CHUNKS = 1_000_000

SIDE_BY_SIDE = 4
"""Chunks of one file that are read or sent at the same time."""

MEMORY = 128 * 2**20
"""Bytes that these may take together; one chunk may always be there."""

MAX_NAME = 4096
"""Characters of a file name in a manifest."""

STREAM_ID = re.compile(r"[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadManifestError(SpoolhouseError):
    """A manifest is not one that could be restored from; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of a file's bytes, and what they must be."""

    index: int
    offset: int
    size: int
    sha256: str | None
    """Hex; None where no one has hashed just this run."""
    etag: str = ""
    """What the store said when it took it; empty where it keeps none."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stream consists of, checked."""

    stream_id: str
    file_name: str
    """As it stands there, escaped: a name for people, no path."""
    file_size: int
    chunk_size: int
    parts: tuple[Part, ...]
    sha256: str
    completed_at: str
    video: str
    """Empty in manifests of other writers."""
    revision: int
    digest: str
    """sha256 of the manifest's own bytes."""


def read_manifest(data: bytes, stream_id: str) -> Manifest:
    """The manifest of this stream from its bytes. Raises BadManifestError."""
    try:
        return _read(data, stream_id)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
        raise BadManifestError(f"The manifest of stream {stream_id} cannot be used: {reason}.") from error


def at_once(parts: Iterable[Part]) -> int:
    """How many of these may be in memory at the same time: four, or fewer where they are very large."""
    largest = max((part.size for part in parts), default=0)
    return max(1, min(SIDE_BY_SIDE, MEMORY // max(1, largest)))


def part_of(chunk: ChunkUploaded) -> Part:
    """A chunk as the log knows it."""
    return Part(chunk.index, chunk.offset, chunk.size, chunk.sha256, chunk.etag)


def parts_of(chunks: Mapping[int, ChunkUploaded], size: int) -> tuple[Part, ...] | None:
    """The chunks that the log knows, in order, where they are all of a file of `size` bytes; else None."""
    parts: list[Part] = []
    offset = 0
    for index in range(len(chunks)):
        chunk = chunks.get(index)
        if chunk is None or chunk.offset != offset:
            return None
        parts.append(part_of(chunk))
        offset += chunk.size
    return tuple(parts) if offset == size else None


def safe_file_name(told: str) -> str:
    """The name under which a file is restored into a folder: never a path, never hidden, nothing that misleads."""
    name = unescape_path(told)
    plain = (
        name == os.path.basename(name)
        and not name.startswith((".", "-", " "))
        and all(c.isprintable() or "\udc80" <= c <= "\udcff" for c in name)
        and 0 < len(os.fsencode(name)) <= 255
    )
    return name if plain else safe_name(told).lstrip("-") or "video"


def _read(data: bytes, stream_id: str) -> Manifest:
    if len(data) > MAX_MANIFEST:
        raise ValueError(f"it has {len(data)} bytes, and none of ours has more than {MAX_MANIFEST}")
    told = orjson.loads(data)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")
    if told["stream_id"] != stream_id:
        raise ValueError("it is that of another stream")
    size = _number(told, "file_size", 0, MAX_CHUNK * MAX_CHUNKS)
    chunk_size = _number(told, "chunk_size", 1, MAX_CHUNK)
    chunks = told["chunks"]
    # An empty file has no chunk, or an empty one.
    expected = max(-(-size // chunk_size), min(1, len(chunks)) if isinstance(chunks, list) else 0)
    if not isinstance(chunks, list) or len(chunks) != expected or expected > MAX_CHUNKS:
        raise ValueError(f"a file of {size} bytes has other chunks than it lists")
    parts = tuple(_part(one, index, stream_id, chunk_size, size) for index, one in enumerate(chunks))
    return Manifest(
        stream_id=stream_id,
        file_name=_text(told["file_name"], "file_name", MAX_NAME),
        file_size=size,
        chunk_size=chunk_size,
        parts=parts,
        sha256=_digest(told["sha256"]),
        completed_at=_text(told.get("completed_at") or "", "completed_at", 64),
        video=_text(told.get("video") or "", "video", 64),
        revision=_number(told, "revision", 0, 2**31) if "revision" in told else 1,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _part(told: Any, index: int, stream_id: str, chunk_size: int, file_size: int) -> Part:
    if not isinstance(told, dict):
        raise ValueError(f"chunk {index} is no JSON object")
    offset = index * chunk_size
    expected = {
        "index": index,
        "key": chunk_key(stream_id, index),
        "offset": offset,
        "size": min(chunk_size, file_size - offset),
    }
    for name, value in expected.items():
        if type(told[name]) is not type(value) or told[name] != value:
            raise ValueError(f"{name} of chunk {index} is {str(told[name])[:100]!r}, and not {value!r}")
    etag = told.get("etag")
    return Part(index, offset, expected["size"], _digest(told["sha256"]), etag if isinstance(etag, str) else "")  # type: ignore[arg-type]


def _number(told: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = told[name]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:100]!r}: no number between {least} and {most}")
    return value


def _text(value: Any, name: str, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise ValueError(f"{name} is no text of at most {limit} characters")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{str(value)[:100]!r} is no sha256")
    return value
