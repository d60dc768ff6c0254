"""Whether a file has all the bytes that its container promises. A few small reads, no decoding."""

from __future__ import annotations

import os
import struct

BOXES = 100_000
"""Boxes that are walked at the most: a fragmented recording of days has fewer."""

_SEGMENT = b"\x18\x53\x80\x67"


def missing_part(fd: int, size: int, container: str) -> str | None:
    """What is missing, in a sentence; None where nothing is, or the container cannot tell.

    `container` is the kind's name by `signatures` or FFmpeg's name of the format.
    """
    if "mp4" in container or container in ("mov", "3gp", "m4a"):
        return _iso_media(fd, size)
    if "matroska" in container or container == "webm":
        return _matroska(fd, size)
    if container == "avi":
        return _riff(fd, size)
    return None


def _iso_media(fd: int, size: int) -> str | None:
    offset, seen = 0, set()
    for _ in range(BOXES):
        header = os.pread(fd, 16, offset)
        if len(header) < 8:
            break
        length, box = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        elif length == 0:
            length = size - offset
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in box):
            break  # junk behind the end is common and harmless
        seen.add(box)
        if offset + length > size:
            return f"it was cut off: {offset + length - size} bytes are missing at its end"
        offset += length
    if b"moov" not in seen:
        return "it has no index (moov box): the recording or transfer was not finished"
    return None


def _matroska(fd: int, size: int) -> str | None:
    head = os.pread(fd, 4096, 0)
    at = head.find(_SEGMENT)
    if at < 0 or len(head) < at + 12:
        return "it was cut off inside its header" if size < 4096 else None
    length_of_size = 9 - head[at + 4].bit_length() if head[at + 4] else 0
    if not length_of_size:
        return None
    raw = int.from_bytes(head[at + 4 : at + 4 + length_of_size], "big") & ((1 << 7 * length_of_size) - 1)
    if raw == (1 << 7 * length_of_size) - 1:
        return None  # a live recording: its length was never written
    end = at + 4 + length_of_size + raw
    return f"it was cut off: {end - size} bytes are missing at its end" if end > size else None


def _riff(fd: int, size: int) -> str | None:
    head = os.pread(fd, 12, 0)
    if len(head) < 12:
        return "it was cut off inside its header"
    end = 8 + int(struct.unpack("<I", head[4:8])[0])
    return f"it was cut off: {end - size} bytes are missing at its end" if size < end < 0xFFFF_FFFF else None
