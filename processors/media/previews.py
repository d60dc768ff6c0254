"""Makes a poster and a sheet of small pictures of a video. Only child processes import this: see `child`.

What decodes is used; a file that cannot be seeked in, or does not say how long it is, gets a poster only.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

import av

from processors.media.decoding import duration_of, pictures, prepare, seconds_of, video_stream
from processors.media.opening import RefusedError, Source, opened
from processors.media.seeking import pictures_at
from processors.media.sheets import Sheet, times_of
from processors.media.stills import Shape, as_jpeg, as_webp, interest, shape_of, shown

POSTER = 1280
"""Pixels of its width, and of its height, at the most; a poster is never larger than the video."""

EARLIEST, LATEST = 0.1, 0.4
CANDIDATES = 7
"""Among how many pictures, from which part of the whole, the poster is chosen."""

FIRST_PICTURES = 50
"""Among how many, where there is no seeking."""


@dataclass(slots=True)
class _Poster:
    """The most interesting picture so far."""

    frame: Any = None
    shape: Shape | None = None
    at: float = 0.0
    interest: float = -1.0

    def consider(self, frame: Any, shape: Shape, at: float) -> None:
        found = interest(frame)
        if found > self.interest:
            self.frame, self.shape, self.at, self.interest = frame, shape, at, found


def make_previews(path: bytes, folder: bytes, sprite_name: str, threads: int, seconds: float) -> dict[str, Any]:
    """Write `poster.jpg`, `poster.webp`, and where it can be `sprite.jpg` and `thumbnails.vtt`, into `folder`.

    The fields of `ports.Previews`. `threads`: of the decoder; 0: as many as there are cores. After about
    `seconds` it makes do with what it has. Raises RefusedError, MemoryError, and OSError where something
    cannot be written.
    """
    deadline = time.monotonic() + seconds
    with opened(path) as source:
        poster, sheet = _sought(source, threads, deadline)
        if poster.frame is None:
            poster, sheet = _from_the_start(source, threads, deadline), None
        if poster.frame is None or poster.shape is None:
            raise _none_in(source)
    size = poster.shape.within(POSTER, POSTER)
    picture = sheet.picture() if sheet is not None else None
    files = {
        b"poster.jpg": as_jpeg(shown(poster.frame, size, "yuvj420p")),
        b"poster.webp": as_webp(shown(poster.frame, size, "yuv420p")),
    }
    tiles = 0
    if sheet is not None and picture is not None:
        tiles = sheet.count
        files |= {b"sprite.jpg": as_jpeg(picture), b"thumbnails.vtt": sheet.webvtt(sprite_name).encode()}
    for name, data in files.items():
        _write(folder, name, data)
    _sync(folder)
    return {"at": poster.at, "width": size.width, "height": size.height, "tiles": tiles}


def best_picture(source: Source, threads: int, deadline: float) -> tuple[Any, Shape]:
    """The frame that a poster would be made of, and how large it is shown. Raises RefusedError, MemoryError."""
    poster, _ = _sought(source, threads, deadline, tiles=False)
    if poster.frame is None:
        poster = _from_the_start(source, threads, deadline)
    if poster.frame is None or poster.shape is None:
        raise _none_in(source)
    return poster.frame, poster.shape


def _none_in(source: Source) -> RefusedError:
    return RefusedError("unreadable", source.missing or "no picture in it can be decoded")


def _sought(source: Source, threads: int, deadline: float, *, tiles: bool = True) -> tuple[_Poster, Sheet | None]:
    """What is found at the times that are wanted; nothing where the length is not known."""
    poster, sheet = _Poster(), None
    with source.demuxed() as container:
        stream = _stream(container, source)
        prepare(stream, threads)
        duration = duration_of(container, stream)
        if duration is None:
            return poster, None
        step = (LATEST - EARLIEST) / (CANDIDATES - 1)
        wanted: list[tuple[float, int | None]] = [(duration * (EARLIEST + step * i), None) for i in range(CANDIDATES)]
        wanted += [(at, number) for number, at in enumerate(times_of(duration)) if tiles]
        wanted.sort(key=itemgetter(0))
        found = pictures_at(container, stream, duration, [at for at, _ in wanted], deadline)
        for which, frame in found:
            at, tile = wanted[which]
            shape = shape_of(frame, stream)
            sheet = sheet or Sheet(duration, shape)
            with suppress(av.FFmpegError, ValueError):  # a picture that cannot be converted is left out
                if tile is None:
                    poster.consider(frame, shape, seconds_of(frame, stream) or at)
                else:
                    sheet.put(tile, shown(frame, sheet.tile, "yuvj420p"))
    return poster, sheet


def _from_the_start(source: Source, threads: int, deadline: float) -> _Poster:
    poster = _Poster()
    with source.demuxed() as container:
        stream = _stream(container, source)
        prepare(stream, threads)
        with closing(pictures(container, stream)) as frames:
            for frame in islice(frames, FIRST_PICTURES):
                with suppress(av.FFmpegError, ValueError):
                    poster.consider(frame, shape_of(frame, stream), seconds_of(frame, stream) or 0.0)
                if time.monotonic() > deadline:
                    break
    return poster


def _stream(container: Any, source: Source) -> Any:
    stream = video_stream(container)
    if stream is None:
        raise RefusedError("no_video", source.missing or "it holds no picture that FFmpeg can decode")
    return stream


def _write(folder: bytes, name: bytes, data: bytes) -> None:
    fd = os.open(
        os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
    )
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)


def _sync(folder: bytes) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
