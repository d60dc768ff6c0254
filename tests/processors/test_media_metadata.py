"""The metadata document: everything that is known, with units, clean, bounded, and without places unless wanted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import orjson
import pytest
import pytest_asyncio

from processors.media.metadata import MAX_SIZE
from processors.media.probing import ChildProber, open_prober
from processors.media.tags import cleaned, tags_of
from processors.ports import Probed
from streams.paths import OsPath
from tests.processors.test_media_previews import film, halves


@pytest_asyncio.fixture
async def prober() -> AsyncIterator[ChildProber]:
    """As by default: without places."""
    async with open_prober(timeout=30, children=1) as prober:
        yield prober


async def document(prober: ChildProber, path: Path) -> Any:
    """What is told of a file that can be read."""
    found = await prober.probe(OsPath(str(path)))
    assert isinstance(found, Probed), found
    assert found.metadata is not None
    assert len(orjson.dumps(found.metadata)) <= MAX_SIZE
    return found.metadata


def tagged(path: Path, tags: dict[str, str], chapters: int = 0, **options: str) -> Path:
    """A short Matroska or MP4 film with tags and chapters."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags", **options}) as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.metadata.update(tags)
        container.set_chapters(
            [
                {"id": n, "start": n, "end": n + 1, "time_base": Fraction(1, 1), "metadata": {"title": f"Part {n}"}}
                for n in range(chapters)
            ]
        )
        for number in range(max(1, chapters) * 5):
            frame = halves(64, 48)
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


async def test_a_real_film(prober: ChildProber, sample_videos: list[Path]) -> None:
    """As ffprobe tells it, in other words."""
    told = await document(prober, sample_videos[0])
    assert told["format"] | {"tags": None} == {
        "name": "mov,mp4,m4a,3gp,3g2,mj2",
        "long_name": "QuickTime / MOV",
        "duration_seconds": 5.312,
        "start_seconds": 0.0,
        "bit_rate_bps": 1589963,
        "size_bytes": 1055736,
        "tags": None,
    }
    picture, sound = told["streams"]
    expected = {
        "index": 0, "type": "video", "codec": "h264", "codec_tag": "avc1", "profile": "Main", "level": "3.1",
        "frames": 132, "width_px": 1280, "height_px": 720, "sample_aspect": "1:1", "display_aspect": "16:9",
        "rotation_degrees": 0, "pixel_format": "yuv420p", "bit_depth_bits": 8, "frame_rate_fps": 25.0,
        "field_order": "progressive", "hdr": False, "dispositions": ["default"],
    }  # fmt: skip
    assert picture | expected == picture
    assert sound | {"codec": "aac", "sample_rate_hz": 48000, "channels": 6, "channel_layout": "5.1"} == sound
    assert "left_out" not in told


async def test_turned_oblong_and_bright(prober: ChildProber, tmp_path: Path) -> None:
    """Rotation as players apply it, aspects, colours, HDR."""
    turned = await document(prober, film(tmp_path / "a.mp4", [halves(64, 48)] * 3, rotation=-90))
    assert turned["streams"][0]["rotation_degrees"] == 90
    oblong = await document(prober, film(tmp_path / "a.mkv", [halves(64, 48)] * 3, aspect=Fraction(4, 3)))
    assert (oblong["streams"][0]["sample_aspect"], oblong["streams"][0]["display_aspect"]) == ("4:3", "16:9")
    path = tmp_path / "b.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 18
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        frame = halves(64, 48).reformat(format="yuv420p10le")
        frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range, frame.pts = 9, 18, 9, 1, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    bright = (await document(prober, path))["streams"][0]
    assert (bright["bit_depth_bits"], bright["hdr"], bright["hdr_format"]) == (10, True, "HLG")
    assert (bright["colour_primaries"], bright["colour_transfer"]) == ("bt2020", "arib-std-b67")
    assert (bright["colour_space"], bright["colour_range"]) == ("bt2020nc", "tv")


@pytest.mark.parametrize("extension", [".mp4", ".mkv"])
async def test_chapters_and_tags(prober: ChildProber, tmp_path: Path, extension: str) -> None:
    """With their times and titles."""
    path = tagged(tmp_path / f"a{extension}", {"title": "Übung ✓", "creation_time": "2024-11-12T13:30:52Z"}, chapters=3)
    told = await document(prober, path)
    lower = {name.lower(): value for name, value in told["format"]["tags"].items()}
    assert lower["title"] == "Übung ✓"
    assert told["format"]["created"].startswith("2024-11-12T13:30:52")
    assert [(one["start_seconds"], one["end_seconds"], one["title"]) for one in told["chapters"]] == [
        (0.0, 1.0, "Part 0"),
        (1.0, 2.0, "Part 1"),
        (2.0, 3.0, "Part 2"),
    ]


async def test_places_are_told_only_where_that_is_wanted(prober: ChildProber, tmp_path: Path) -> None:
    """Whatever the tag's name; that something was left out is said."""
    place = "+48.8577+002.2950+035/"
    tags = {
        "title": "At the tower",
        "location": place,
        "com.apple.quicktime.location.ISO6709": place,
        "comment": place,
        "GPSLatitude": "48.8577",
    }
    for path in (tagged(tmp_path / "a.mp4", tags), tagged(tmp_path / "a.mkv", tags)):
        assert b"48.8577" in path.read_bytes()
        told = await document(prober, path)
        assert "48.85" not in json.dumps(told)
        assert "At the tower" in json.dumps(told)
        assert any("SPOOLHOUSE_METADATA_GPS" in sentence for sentence in told["left_out"])
        async with open_prober(timeout=30, children=1, gps=True) as curious:
            told = await document(curious, path)
        assert place in told["format"]["tags"].values()
        assert "left_out" not in told


async def test_a_flood_of_tags_and_chapters_is_bounded(prober: ChildProber, tmp_path: Path) -> None:
    """The document stays small, keeps what matters most, and says what it lacks."""
    path = tagged(tmp_path / "a.mkv", {f"tag{n}": "ä" * 20_000 for n in range(300)}, chapters=300)
    told = await document(prober, path)
    assert told["streams"][0]["width_px"] == 64
    assert len(told["chapters"]) >= 10
    said = " / ".join(told["left_out"])
    assert "chapters" in said
    assert "tags" in said


@pytest.mark.parametrize(("count", "beyond"), [(100, 36), (1_000_000, 192)])
async def test_many_streams(prober: ChildProber, tmp_path: Path, count: int, beyond: int) -> None:
    """A few are told of; of a million FFmpeg looks at 256."""
    path = tmp_path / "many.mkv"
    path.write_bytes(_matroska(count))
    told = await document(prober, path)
    assert len(told["streams"]) == 64
    assert told["left_out"] == [f"{beyond} streams beyond what has room here"]


def _matroska(tracks: int) -> bytes:
    """A header that declares so many streams, and next to nothing behind it."""

    def element(name: str, content: bytes) -> bytes:
        return bytes.fromhex(name) + (0x0100000000000000 | len(content)).to_bytes(8, "big") + content

    def track(number: int) -> bytes:
        size = element("b0", b"\x40") + element("ba", b"\x30")
        uid = number.to_bytes(4, "big")
        return element(
            "ae", element("d7", uid) + element("73c5", uid) + element("83", b"\x01") + codec + element("e0", size)
        )

    codec = element("86", b"V_VP8")
    head = element("1a45dfa3", element("4282", b"matroska") + element("4287", b"\x04") + element("4285", b"\x02"))
    listed = element("1654ae6b", b"".join(track(number) for number in range(1, tracks + 1)))
    block = element("1f43b675", element("e7", b"\x00") + element("a3", b"\x81\x00\x00\x80" + bytes(99)))
    return head + element("18538067", element("1549a966", element("2ad7b1", b"\x0f\x42\x40")) + listed + block)


def test_text_is_cleaned() -> None:
    """Of what JSON, terminals and tables cannot hold."""
    assert cleaned("a\x00b\x1b[31mc\udc80d\n", 100) == "ab[31mc�d"
    assert cleaned("x" * 50, 10) == "x" * 9 + "…"
    assert tags_of({"\x01": "x", "a": "\x02", "b": " c "}, gps=False, left_out=pytest.fail) == {"b": "c"}


async def test_tags_that_are_not_utf_8_do_no_harm(prober: ChildProber, tmp_path: Path) -> None:
    """Old cameras write what they like."""
    path = tagged(tmp_path / "a.mkv", {"title": "MARK-MARK"})
    path.write_bytes(path.read_bytes().replace(b"MARK-MARK", b"\xff\xfe\x80 \x1b[2J!"))
    told = await document(prober, path)
    lower = {name.lower(): value for name, value in told["format"]["tags"].items()}
    assert lower["title"] == "��� [2J!"
