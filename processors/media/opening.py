"""Opens files that nobody vouches for: by their content, only for reading, and nothing else along with them.

Only child processes import this: see `child`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import av
from av.stream import Disposition

from processors.media.signatures import SNIFF, kind_of
from processors.media.wholeness import missing_part

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,asf,asf_o,ogg,mxf,gxf,yuv4mpegpipe,"
    "ivf,nut,rm,wtv,bink,smk,dv,h264,hevc,vvc,av1,obu,m4v,h263,vc1,dirac,cavsvideo,nsv,nuv,r3d,roq,amv,4xm,dhav,ty"
)
"""The demuxers that FFmpeg may use: real containers, and none that follows names to other files or hosts."""

SOUNDS = f"{FORMATS},mp3,aac,flac,wav,ac3,eac3,w64,caf,aiff,au"
"""And those that hold sound alone."""

PICTURES = (
    "jpeg_pipe,png_pipe,webp_pipe,gif,gif_pipe,bmp_pipe,tiff_pipe,jpegxl_pipe,j2k_pipe,ppm_pipe,pgm_pipe,qoi_pipe,"
    "mov,mp4,m4a,3gp,3g2,mj2"
)
"""And those that hold a picture."""

DECLARE_ALL = frozenset({"mov", "mp4", "matroska", "webm", "avi", "asf"})
"""Containers whose header names every stream: what is not named there does not exist."""

MAX_PIXELS = 8192 * 8192
"""Pixels of the largest picture that is decoded."""

_OPTIONS = {
    "protocol_whitelist": "fd",
    "probesize": str(32 * 2**20),
    "analyzeduration": str(10 * 1_000_000),
    "max_streams": "256",
    "max_pixels": str(MAX_PIXELS),
}


class RefusedError(Exception):
    """A file that cannot be worked on, in the words of `ports.ProbeFailure` and `ports.MediaFailure`."""

    def __init__(self, kind: Literal["gone", "unreadable", "no_video", "too_large"], reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True, slots=True)
class Source:
    """An open file that may be a video."""

    fd: int
    size: int
    """Bytes, when it was opened."""
    missing: str | None
    """What its container promises and it does not have, in a sentence."""
    formats: str = FORMATS
    """What FFmpeg may take it for."""

    @contextmanager
    def demuxed(self) -> Iterator[Any]:
        """FFmpeg's view of it, from its start. One at a time: they share the file's position. Raises RefusedError."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        try:
            # The path itself never gets to FFmpeg, only the open file. Tags may be in any encoding.
            options = {**_OPTIONS, "format_whitelist": self.formats, "fd": str(self.fd)}
            container = av.open("fd:", options=options, metadata_errors="replace")
        except MemoryError:
            raise RefusedError("unreadable", "it asks for more memory than a video may need") from None
        except (av.FFmpegError, ValueError) as error:
            raise RefusedError("unreadable", self.missing or f"FFmpeg cannot read it: {words_of(error)}") from None
        with container:
            yield container

    def picture_streams(self, container: Any) -> list[Any]:
        """The streams of moving pictures in what `demuxed` gave. Raises RefusedError where there is none."""
        streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
        if streams:
            return streams
        if self.missing is None and container.streams.audio and DECLARE_ALL & set(container.format.name.split(",")):
            raise RefusedError("no_video", "it holds sound but no picture")
        raise RefusedError("unreadable", self.missing or "no video stream was found in it")


@contextmanager
def opened(path: bytes, *, sounds: bool = False) -> Iterator[Source]:
    """Open a regular file that does not positively look like something else. Raises RefusedError.

    `sounds`: it may hold sound alone.
    """
    try:
        # O_NONBLOCK: a FIFO must not hold us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise RefusedError("gone", "the file is no longer there") from None
    except OSError as error:
        raise RefusedError("unreadable", f"it cannot be opened: {error.strerror}") from None
    try:
        try:
            source = _looked_at(fd, sounds=sounds)
        except OSError as error:
            raise RefusedError("unreadable", f"it cannot be read: {error.strerror}") from None
        yield source
    finally:
        os.close(fd)


def words_of(error: BaseException) -> str:
    """What a library's error says, for people."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _looked_at(fd: int, *, sounds: bool) -> Source:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError("unreadable", "it is not a regular file")
    size = status.st_size
    if not size:
        raise RefusedError("unreadable", "it is empty")
    kind = kind_of(os.pread(fd, SNIFF, 0), whole=size <= SNIFF)
    if kind.verdict == "other" and not (sounds and kind.name.endswith("sound file")):
        raise RefusedError("no_video", f"it is {kind.name}")
    return Source(fd, size, missing_part(fd, size, kind.name), SOUNDS if sounds else FORMATS)
