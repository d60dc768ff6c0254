"""Records a live stream (HLS): looks at its playlist again and again, and takes what is new. In the child.

yt-dlp leaves that to ffmpeg, which we do not start. A stream is over when its playlist says so, when
nothing new comes for a while, or when it is gone after it was there.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import orjson
from yt_dlp.aes import aes_cbc_decrypt_bytes, unpad_pkcs7
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.utils import parse_m3u8_attributes

from processors.fetching.engine import Engine
from processors.fetching.failures import FailedError
from processors.fetching.meter import Meter
from processors.fetching.resuming import PartFile, replace_file

QUIET = 60.0
"""Seconds without anything new after which a stream counts as over."""

EARLY = 60.0
"""Seconds before time is up at which a recording ends well."""

TRIES = 3
"""Of one segment; then it is left out: the stream does not wait."""

MAX_SEGMENT = 256 * 2**20
"""Bytes."""

MAX_PLAYLIST = 16 * 2**20
MAX_SEGMENTS = 10_000
"""Of one playlist."""


def goes_on(manifest: str) -> bool:
    """Whether more will be added to a playlist."""
    return "#EXT-X-ENDLIST" not in manifest and "#EXTINF" in manifest and "#EXT-X-PLAYLIST-TYPE:VOD" not in manifest


@dataclass(frozen=True)
class _Segment:
    number: int
    url: str
    key: dict[str, Any]
    bytes: tuple[int, int] | None
    """The first, and the one behind the last."""


@dataclass(frozen=True)
class _Playlist:
    segments: list[_Segment]
    start: _Segment | None
    """What goes before all others."""
    target: float
    """Seconds between two looks, about twice."""
    over: bool


class _Recording:
    """A file that grows, and how far it is, in a note beside it."""

    def __init__(self, file: PartFile) -> None:
        self._note, self._part = f"{file.path}.live", f"{file.path}.part"
        self.last: int | None = None
        self.start = ""
        size = 0
        try:
            told = orjson.loads(Path(self._note).read_bytes())
            size, self.last, self.start = int(told["size"]), int(told["last"]), str(told["start"])
            os.truncate(self._part, size) if os.path.getsize(self._part) >= size else self._forget()
        except (OSError, ValueError, KeyError, TypeError):
            self._forget()
        self._stream = open(self._part, "ab")  # noqa: SIM115 - closed by `close`
        self.size = self._stream.tell()
        """Bytes."""

    def _forget(self) -> None:
        self.last, self.start = None, ""
        Path(self._part).write_bytes(b"")

    def add(self, data: bytes, last: int | None, start: str) -> None:
        """Append, and note it."""
        self._stream.write(data)
        self._stream.flush()
        self.start, self.size = start, self.size + len(data)
        if last is not None:
            self.last = last
            replace_file(self._note, orjson.dumps({"size": self.size, "last": last, "start": start}))

    def close(self) -> None:
        """No more comes now."""
        self._stream.close()


def record(engine: Engine, info: dict[str, Any], file: PartFile, meter: Meter) -> None:
    """Record until it is over; the file lies there then. Raises what yt-dlp does, and FailedError."""
    until = time.monotonic() + engine.around.seconds - EARLY
    recording = _Recording(file)
    headers: dict[str, str] = dict(info.get("http_headers") or {})
    keys: dict[str, bytes] = {}
    fresh_at, manifest = time.monotonic(), str(info["hls_media_playlist_data"])
    try:
        while True:
            playlist = _parsed(manifest, str(info["url"]))
            for segment in playlist.segments:
                if recording.last is not None and segment.number <= recording.last:
                    continue
                if playlist.start is not None and recording.start != playlist.start.url:
                    recording.add(_fetched(engine, playlist.start, headers, keys) or b"", None, playlist.start.url)
                data = _fetched(engine, segment, headers, keys)
                recording.add(data or b"", segment.number, recording.start)
                if data is None:
                    engine.notes.warning("a piece of the stream could not be had and is left out")
                meter.hook({"downloaded_bytes": recording.size})
                fresh_at = time.monotonic()
            now = time.monotonic()
            if now >= until:
                engine.notes.warning("the recording ended when its time was up (SPOOLHOUSE_DOWNLOAD_TIMEOUT)")
            if playlist.over or now >= until or now - fresh_at > QUIET:
                break
            time.sleep(min(max(playlist.target / 2, 0.2), 10))
            looked = _looked(engine, str(info["url"]), headers)
            if looked is None:
                break
            manifest = looked or manifest
    finally:
        recording.close()
    if not recording.size:
        raise FailedError("network", "nothing came of the stream")
    os.replace(f"{file.path}.part", file.path)


def _looked(engine: Engine, url: str, headers: dict[str, str]) -> str | None:
    """The playlist as it is now; empty where it cannot be had just now; None where it is gone."""
    try:
        return _read(engine, Request(url, headers=headers), MAX_PLAYLIST).decode("utf-8", "ignore")
    except HTTPError as error:
        return None if error.status in {404, 410} else ""
    except RequestError:
        return ""


def _fetched(engine: Engine, segment: _Segment, headers: dict[str, str], keys: dict[str, bytes]) -> bytes | None:
    """A segment's content; None where it cannot be had."""
    for attempt in range(TRIES):
        try:
            request = Request(segment.url, headers=dict(headers))
            if segment.bytes is not None:
                request.headers["Range"] = f"bytes={segment.bytes[0]}-{segment.bytes[1] - 1}"
            data = _read(engine, request, MAX_SEGMENT)
            return _decrypted(engine, segment, data, headers, keys)
        except RequestError:
            time.sleep(0.3 * (attempt + 1))
    return None


def _decrypted(
    engine: Engine, segment: _Segment, data: bytes, headers: dict[str, str], keys: dict[str, bytes]
) -> bytes:
    method = segment.key.get("METHOD", "NONE")
    if method == "NONE":
        return data
    if method != "AES-128":
        raise FailedError("drm", f"the stream is encrypted ({method})")
    url = str(segment.key.get("URI") or "")
    if url not in keys:
        keys[url] = _read(engine, Request(url, headers=dict(headers)), 1024)
    told = str(segment.key.get("IV") or "")
    iv = bytes.fromhex(told[2:].zfill(32)) if told else segment.number.to_bytes(16, "big")
    return bytes(unpad_pkcs7(aes_cbc_decrypt_bytes(data, keys[url], iv)))


def _read(engine: Engine, request: Request, most: int) -> bytes:
    response = engine.urlopen(request)
    try:
        blocks, size = [], 0
        while block := response.read(2**20):
            blocks.append(block)
            size += len(block)
            if size > most:
                raise FailedError("too_large", f"a piece of the stream has more than {most} bytes")
        return b"".join(blocks)
    finally:
        response.close()


def _parsed(manifest: str, base: str) -> _Playlist:
    number, target, over, behind = 0, 5.0, False, 0
    key: dict[str, Any] = {}
    part: tuple[int, int] | None = None
    start: _Segment | None = None
    segments: list[_Segment] = []
    for raw in manifest.splitlines():
        text = raw.strip()
        if text.startswith("#EXT-X-MEDIA-SEQUENCE:"):
            number = int(re.sub(r"\D", "", text) or 0)
        elif text.startswith("#EXT-X-TARGETDURATION:"):
            target = float(re.sub(r"[^0-9.]", "", text) or 5)
        elif text.startswith("#EXT-X-KEY:"):
            key = parse_m3u8_attributes(text[11:])
            if key.get("URI"):
                key["URI"] = urljoin(base, key["URI"])
        elif text.startswith("#EXT-X-MAP:"):
            told = parse_m3u8_attributes(text[11:])
            start = _Segment(-1, urljoin(base, told.get("URI", "")), key, _range(told.get("BYTERANGE", ""), 0))
        elif text.startswith("#EXT-X-BYTERANGE:"):
            part = _range(text[17:], behind)
        elif text.startswith("#EXT-X-ENDLIST"):
            over = True
        elif text and not text.startswith("#") and len(segments) < MAX_SEGMENTS:
            segments.append(_Segment(number, urljoin(base, text), key, part))
            behind, part = (part[1], None) if part is not None else (0, None)
            number += 1
    return _Playlist(segments, start, target, over)


def _range(text: str, behind: int) -> tuple[int, int] | None:
    length, _, first = text.strip().partition("@")
    if not length.isdigit():
        return None
    begin = int(first) if first.isdigit() else behind
    return begin, begin + int(length)
