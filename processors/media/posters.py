"""Makes one JPEG of any picture, or of a film's most telling one. Only child processes import this: see `child`."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import Any

import av

from processors.media.decoding import pictures, prepare, video_stream
from processors.media.opening import PICTURES, RefusedError, Source, opened, words_of
from processors.media.previews import best_picture
from processors.media.signatures import SNIFF, kind_of
from processors.media.stills import Shape, as_jpeg, shape_of, shown
from processors.media.writing import write_whole

LARGEST = 2000
"""Pixels of its width, and of its height, at the most."""

MAX_BYTES = 64 * 2**20
"""Bytes of a picture that is looked at."""


def make_still(path: bytes, target: bytes, threads: int, seconds: float) -> None:
    """Write a JPEG to `target`, durably. Raises RefusedError, TargetError, MemoryError."""
    frame, shape = _of_picture(path) or _of_film(path, threads, time.monotonic() + seconds)
    try:
        data = as_jpeg(shown(frame, shape.within(LARGEST, LARGEST), "yuvj420p"))
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise MemoryError(str(error)) from error
        raise RefusedError("unreadable", f"no JPEG can be made of it: {words_of(error)}") from error
    write_whole(target, data)


def _of_film(path: bytes, threads: int, deadline: float) -> tuple[Any, Shape]:
    with opened(path) as source:
        return best_picture(source, threads, deadline)


def _of_picture(path: bytes) -> tuple[Any, Shape] | None:
    """The picture in a file that is one; None where it is a film."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RefusedError("gone", "the file is no longer there") from None
    except OSError as error:
        raise RefusedError("unreadable", f"it cannot be opened: {error.strerror}") from None
    try:
        size = os.fstat(fd).st_size
        head = os.pread(fd, SNIFF, 0)
        if kind_of(head, whole=size <= SNIFF).verdict == "container":
            return None
        if not size or size > MAX_BYTES:
            raise RefusedError("too_large" if size else "unreadable", f"it is no picture: it has {size} bytes")
        with Source(fd, size, None, PICTURES).demuxed() as container:
            stream = video_stream(container)
            if stream is None:
                raise RefusedError("no_video", "it holds no picture that FFmpeg can decode")
            prepare(stream)
            with closing(pictures(container, stream)) as frames:
                frame = next(frames, None)
            if frame is None:
                raise RefusedError("unreadable", "its picture does not decode")
            return frame, shape_of(frame, stream)
    finally:
        os.close(fd)
