"""Opens a file for PyAV so that it can open nothing else. Only child processes import this: see `child`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av

from processors.media.signatures import SNIFF, kind_of
from processors.media.wholeness import missing_part

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,asf,asf_o,ogg,mxf,gxf,yuv4mpegpipe,"
    "ivf,nut,rm,wtv,bink,smk,dv,h264,hevc,vvc,av1,obu,m4v,h263,vc1,dirac,cavsvideo,nsv,nuv,r3d,roq,amv,4xm,dhav,ty"
)
"""The demuxers that FFmpeg may use: real containers, and none that follows names to other files or hosts."""

MAX_PIXELS = 64 * 2**20
"""Of a picture that we decode: 8K is half of it. What is larger is a bomb, or will not fit into memory anyway."""

_OPTIONS = {
    "protocol_whitelist": "fd",
    "format_whitelist": FORMATS,
    "probesize": str(32 * 2**20),
    "analyzeduration": str(10 * 1_000_000),
    "max_streams": "256",
}


class OpeningError(Exception):
    """The file cannot be worked on."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        """`gone`, `unreadable`, `no_video`, `memory`: see `ports.MediaFailure`."""
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Source:
    """A file that FFmpeg has open."""

    container: Any
    """PyAV's InputContainer."""
    size: int
    """Bytes."""
    missing: str | None
    """What its container promises and it does not have, in a sentence."""


@contextmanager
def open_source(path: bytes) -> Iterator[Source]:
    """The file at `path`, open while the body runs. Raises OpeningError; not for what goes wrong in the body."""
    try:
        # O_NONBLOCK: a FIFO must not hold us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise OpeningError("gone", "the file is no longer there") from None
    except OSError as error:
        raise OpeningError("unreadable", f"it cannot be opened: {error.strerror}") from None
    try:
        source = _opened(fd)
        with source.container:
            yield source
    finally:
        os.close(fd)


def _opened(fd: int) -> Source:
    missing = None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OpeningError("unreadable", "it is not a regular file")
        size = status.st_size
        if not size:
            raise OpeningError("unreadable", "it is empty")
        kind = kind_of(os.pread(fd, SNIFF, 0), whole=size <= SNIFF)
        if kind.verdict == "other":
            raise OpeningError("no_video", f"it is {kind.name}")
        missing = missing_part(fd, size, kind.name)
        # The path itself never gets to FFmpeg, only the open file. Tags need not be UTF-8.
        container = av.open("fd:", options={**_OPTIONS, "fd": str(fd)}, metadata_errors="replace")
        return Source(container, size, missing)
    except MemoryError:
        raise OpeningError("memory", "it asks for more memory than a video may need") from None
    except (av.FFmpegError, ValueError) as error:
        raise OpeningError("unreadable", missing or f"FFmpeg cannot read it: {text_of(error)}") from None
    except OSError as error:
        raise OpeningError("unreadable", f"it cannot be read: {error.strerror}") from None


def text_of(error: Exception) -> str:
    """What FFmpeg says of an error."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
