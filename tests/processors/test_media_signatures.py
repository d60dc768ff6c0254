"""What the first bytes of a file say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.media.signatures import SNIFF, kind_of
from processors.media.wholeness import missing_part

PICTURE = [("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")]
PICTURE += [("mpegts", "libx264"), ("mpeg", "mpeg2video"), ("flv", "flv1"), ("asf", "wmv2"), ("ogg", "libvpx")]
PICTURE += [("mxf", "mpeg2video"), ("3gp", "h263"), ("yuv4mpegpipe", "wrapped_avframe"), ("h264", "libx264")]
PICTURE += [("hevc", "libx265"), ("nut", "mpeg4"), ("ivf", "libvpx-vp9"), ("mpeg2video", "mpeg2video"), ("m2ts", "")]


def encode(path: Path, muxer: str, codec: str) -> Path:
    """A second of grey in any container that FFmpeg writes."""
    options = {}
    if muxer == "m2ts":
        muxer, codec, options = "mpegts", "libx264", {"mpegts_m2ts_mode": "1"}
    with av.open(str(path), "w", format=muxer, options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for number in range(25):
            frame = av.VideoFrame(176, 144, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 9]) * plane.buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(params=PICTURE, ids=lambda pair: str(pair[0]))
def any_video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A video of each container, under a name that says nothing."""
    return encode(tmp_path / "file", *request.param)


def test_every_container_is_recognised(any_video: Path) -> None:
    """By its first bytes, whatever its name."""
    data = any_video.read_bytes()
    assert kind_of(data[:SNIFF], whole=len(data) <= SNIFF).verdict == "container"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"GIF89a\1\0\1\0", "GIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"\x7fELF\2\1\1\0", "program"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "WAV"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"<!DOCTYPE html><html>hello</html>", "HTML"),
        (b"just some words\n", "text"),
        ("Grüße".encode(), "text"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
        (b"G" * 4096, "text"),
        (b"ID3\x04\0", "MP3"),
    ],
)
def test_what_is_positively_something_else(head: bytes, name: str) -> None:
    """Named, so that the sender knows why."""
    kind = kind_of(head, whole=True)
    assert kind.verdict == "other"
    assert name in kind.name


def test_text_whose_last_character_is_cut_is_text() -> None:
    """Only where the head is not the whole file."""
    head = ("ü" * SNIFF).encode()[:SNIFF] + b"\xc3"
    assert kind_of(head).verdict == "other"
    assert kind_of(head, whole=True).verdict == "unknown"


def test_a_transport_stream_may_begin_anywhere(tmp_path: Path) -> None:
    """A recording cut in the middle of a packet."""
    data = encode(tmp_path / "a", "mpegts", "libx264").read_bytes()
    assert kind_of(data[77:]).name == "mpegts"


@given(st.binary(max_size=4096))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """Nothing raises."""
    assert kind_of(data).verdict in {"container", "other", "unknown"}


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv", ".avi", ".webm"])
def test_whole_files_miss_nothing_and_cut_ones_do(
    tmp_path: Path, make_video: Callable[..., Path], extension: str
) -> None:
    """Cut at many places."""
    path = make_video(tmp_path / f"a{extension}")
    data = path.read_bytes()
    name = kind_of(data[:SNIFF]).name
    with open(path, "rb") as file:
        assert missing_part(file.fileno(), len(data), name) is None
    for length in range(60, len(data) - 1, max(1, len(data) // 40)):
        path.write_bytes(data[:length])
        with open(path, "rb") as file:
            assert missing_part(file.fileno(), length, name), length
