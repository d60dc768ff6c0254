"""Ids that a retry makes again: UUIDv5, never random, so that a repeat is recognised.

Only a video that comes in through an upload gets a random id: the bytes have no name before it,
and its sidecar keeps it from then on.
"""

from __future__ import annotations

import hashlib
import uuid
from functools import lru_cache

from streams.paths import escape_path

_SPOOLHOUSE = uuid.uuid5(uuid.NAMESPACE_URL, "https://spoolhouse.invalid/ids")

REGISTRY = "registry:videos"
"""The subject whose own versions hand out the numbers of the legacy `videos` table."""


def event_id(subject: str, step: str, ordinal: int = 0) -> str:
    """The id of the event that `step` (what was done, why) writes about `subject`."""
    return _named(_subject_namespace(subject), f"{step}#{ordinal}")


def new_video_id() -> str:
    """A fresh id for an uploaded video."""
    return str(uuid.uuid4())


def watched_video_id(root: str, relative: str, generation: int = 0) -> str:
    """The id of a watched file: the same path in the same root is the same video.

    `generation` counts how often the file at this path was removed and another one came.
    """
    return _named(_SPOOLHOUSE.bytes, f"watched\0{escape_path(root)}\0{escape_path(relative)}\0{generation}")


def adopted_row_id(number: int) -> str:
    """The id of a row of the legacy table that no watched root explains."""
    return str(uuid.uuid5(_SPOOLHOUSE, f"legacy\0{number}"))


def adopted_video_id(path: str, sha256: str) -> str:
    """The id of a file that lay in the upload folder before we knew of it."""
    return str(uuid.uuid5(_SPOOLHOUSE, f"adopted\0{escape_path(path)}\0{sha256}"))


def root_subject(root: str) -> str:
    """The subject that holds a watched root's own history."""
    return f"root:{uuid.uuid5(_SPOOLHOUSE, f'root{chr(0)}{escape_path(root)}')}"


def stream_id(video: str, revision: int, take: int = 0) -> str:
    """The id of the stream of chunks that holds a revision of a video: 64 hex digits.

    Whoever lost everything but the video's id can name it again. `take` counts how often the file
    was replaced before it settled: what was sent of it until then is another stream.
    """
    return hashlib.sha256(f"spoolhouse stream\0{video}\0{revision}\0{take}".encode()).hexdigest()


def rendition_id(video: str, revision: int, name: str) -> str:
    """The id of a rendition; `name` tells what it was made with (preset, parameters, size)."""
    return str(uuid.uuid5(_SPOOLHOUSE, f"rendition\0{video}\0{revision}\0{name}"))


def growth_subject(video: str) -> str:
    """The subject that holds what was sent of a file before it settled."""
    return f"growth:{video}"


DOWNLOADS_REGISTRY = "registry:downloads"
"""The subject whose own versions are the numbers of downloads."""

SUBSCRIPTIONS_REGISTRY = "registry:subscriptions"
"""The subject whose own versions are the numbers of subscriptions."""

DOWNLOAD_CONFIG = "sys:downloads"
"""The subject that holds how downloads are made."""


def download_subject(number: int) -> str:
    """The subject that holds a download's history."""
    return f"download:{number}"


def subscription_subject(number: int) -> str:
    """The subject that holds a subscription's history."""
    return f"subscription:{number}"


def entry_key(parent: str, entry: str, take: int = 1) -> str:
    """The key of the download of a list's entry; `parent` is the list's own key, `entry` tells its entries apart."""
    return str(uuid.uuid5(_SPOOLHOUSE, f"entry\0{parent}\0{take}\0{entry}"))


def downloaded_video_id(key: str, take: int) -> str:
    """The id of the video that a take of a download becomes."""
    return str(uuid.uuid5(_SPOOLHOUSE, f"downloaded\0{key}\0{take}"))


DISK = "sys:disk"
"""The subject that holds what became of disk space."""


@lru_cache(maxsize=4096)
def _subject_namespace(subject: str) -> bytes:
    return bytes.fromhex(_named(_SPOOLHOUSE.bytes, subject).replace("-", ""))


def _named(namespace: bytes, name: str) -> str:
    """`str(uuid.uuid5(...))` in a quarter of the time: each event needs three of them."""
    digest = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
