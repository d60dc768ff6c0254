"""The outermost boxes of an MP4 file: where its index lies, and where its fragments do."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BOXES = 1_000_000


@dataclass(frozen=True, slots=True)
class Box:
    """One of them."""

    name: str
    offset: int
    length: int
    """Bytes, with its header."""


def boxes_of(fd: int) -> Iterator[Box]:
    """In their order, as far as they are whole. Raises OSError."""
    size = os.fstat(fd).st_size
    offset = 0
    for _ in range(MAX_BOXES):
        header = os.pread(fd, 16, offset)
        if len(header) < 8:
            return
        length, name = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        elif length == 0:
            length = size - offset
        if length < 8 or offset + length > size:
            return
        yield Box(name.decode("latin-1"), offset, length)
        offset += length
