"""Real films of any size, and the same cut into HLS and DASH: made once in a process."""

from __future__ import annotations

import atexit
import random
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path

import av
from Cryptodome.Cipher import AES

from tests.clips import Clip, make_clip

SECONDS = 6
KEY = bytes(range(16))
"""Of encrypted HLS."""
_BLOCK = 65_521
"""Bytes after which padding repeats: a prime, so that no shifted piece looks right."""


class Body:
    """A film, made longer by a box that players skip. `seed` makes the contents differ."""

    def __init__(self, head: bytes, size: int | None = None, seed: int = 0) -> None:
        missing = 0 if size is None else max(0, size - len(head))
        if 0 < missing < 16:
            missing = 16
        self._head = head + (struct.pack(">I4sQ", 1, b"free", missing) if missing else b"")
        self.size = len(head) + missing
        self._block = random.Random(seed).randbytes(_BLOCK) if missing else b""

    def read(self, start: int, length: int) -> bytes:
        """Some of its bytes."""
        length = min(length, self.size - start)
        got = self._head[start : start + length]
        at = start + len(got) - len(self._head)
        while len(got) < length:
            piece = self._block[at % _BLOCK :][: length - len(got)]
            got, at = got + piece, at + len(piece)
        return got


def film_bytes(size: int | None = None, seed: int = 0, kind: str = "mp4") -> bytes:
    """What `/film.mp4?size=…&seed=…` serves."""
    body = Body(film(kind), size, seed)
    return body.read(0, body.size)


@cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="site-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def film(kind: str = "mp4") -> bytes:
    """Six seconds with sound: `mp4`, `webm`; `picture` and `m4a` are its halves."""
    path = _folder() / f"film.{kind}"
    if kind == "webm":
        make_clip(path, Clip(muxer="webm", codec="libvpx-vp9", frames=25, sound="libopus", options=_VP9))
    elif kind in {"picture", "m4a"}:
        _remux(path, "mp4", {"movflags": "faststart"}, "video" if kind == "picture" else "audio")
    else:
        make_clip(
            path,
            Clip(
                frames=10 * SECONDS,
                rate=10,
                options={"preset": "ultrafast", "g": "10"},
                container_options={"movflags": "faststart"},
            ),
        )
    return path.read_bytes()


_VP9 = {"deadline": "realtime", "cpu-used": "8"}


@cache
def hls(encrypted: bool = False) -> dict[str, bytes]:
    """File name → content; `index.m3u8`, six segments and, of the encrypted one, `key`."""
    folder = _folder() / "hls"
    folder.mkdir(exist_ok=True)
    options = {"hls_time": "1", "hls_playlist_type": "vod", "hls_segment_filename": f"{folder}/segment%d.ts"}
    _remux(folder / "index.m3u8", "hls", options)
    files = {one.name: one.read_bytes() for one in folder.iterdir()}
    if not encrypted:
        return files
    playlist = files.pop("index.m3u8").decode()
    first = playlist.index("#EXTINF")
    made = {"index.m3u8": f'{playlist[:first]}#EXT-X-KEY:METHOD=AES-128,URI="key"\n{playlist[first:]}'.encode()}
    for name, content in files.items():
        number = int(name.removeprefix("segment").removesuffix(".ts"))
        padding = 16 - len(content) % 16
        cipher = AES.new(KEY, AES.MODE_CBC, iv=number.to_bytes(16, "big"))
        made[name] = cipher.encrypt(content + bytes([padding]) * padding)
    return {**made, "key": KEY}


@cache
def dash() -> dict[str, bytes]:
    """File name → content; `manifest.mpd` and what it names: picture and sound apart."""
    folder = _folder() / "dash"
    folder.mkdir(exist_ok=True)
    _remux(folder / "manifest.mpd", "dash", {"seg_duration": "1", "use_template": "1", "use_timeline": "0"})
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@cache
def picture() -> bytes:
    """A JPEG."""
    path = _folder() / "poster.jpg"
    make_clip(path, Clip(muxer="image2", codec="mjpeg", frames=1, sound=None, pix_fmt="yuvj420p"))
    return path.read_bytes()


def _remux(target: Path, muxer: str, options: dict[str, str], *kinds: str) -> None:
    film()
    with (
        av.open(str(_folder() / "film.mp4")) as source,
        av.open(str(target), "w", format=muxer, container_options=options) as made,
    ):
        streams = {
            stream.index: made.add_stream_from_template(stream)
            for stream in source.streams
            if not kinds or stream.type in kinds
        }
        for packet in source.demux():
            if packet.dts is not None and packet.stream.index in streams:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
