"""Posters and sheets: right about good videos, of use for damaged ones, and never large or long in the making."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio

from processors.media.sheets import interval_of, times_of
from processors.media.studio import ChildStudio, open_studio
from processors.ports import MediaFailure, PreviewJob, Previews
from streams.paths import OsPath
from streams.settings import Settings

RED, BLUE = (81, 90, 240), (41, 240, 110)
"""Y, U, V."""


@pytest_asyncio.fixture
async def studio(make_settings: Callable[..., Settings]) -> AsyncIterator[ChildStudio]:
    """As by default."""
    async with open_studio(make_settings()) as studio:
        yield studio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty."""
    made = tmp_path / "previews \udcff"
    made.mkdir()
    return made


async def previews(studio: ChildStudio, path: Path, folder: Path) -> Previews:
    """Previews that are made."""
    made = await studio.preview(PreviewJob(OsPath(str(path)), OsPath(str(folder))))
    assert isinstance(made, Previews), made
    return made


def look(path: Path) -> Any:
    """A picture's only frame, as RGB."""
    with path.open("rb") as file, av.open(file) as container:
        return next(container.decode(video=0)).reformat(format="rgb24")


def pixel(frame: Any, x: int, y: int) -> tuple[int, int, int]:
    """Red, green, blue."""
    plane = frame.planes[0]
    at = y * plane.line_size + 3 * x
    red, green, blue = bytes(plane)[at : at + 3]
    return red, green, blue


def halves(width: int, height: int, left: tuple[int, ...] = RED, right: tuple[int, ...] = BLUE) -> Any:
    """A frame of two colours, side by side."""
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, one, other in zip(frame.planes, left, right, strict=True):
        half = plane.width // 2
        row = (bytes([one]) * half + bytes([other]) * (plane.width - half)).ljust(plane.line_size, b"\0")
        plane.update(row * plane.height)
    return frame


def film(
    path: Path,
    frames: list[Any],
    *,
    rotation: int = 0,
    aspect: Fraction | None = None,
    encoder: str = "libx264",
) -> Path:
    """A video of these frames."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=5)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        if encoder == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10"}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


async def test_a_real_film_has_a_poster_and_a_sheet(
    studio: ChildStudio, folder: Path, sample_videos: list[Path]
) -> None:
    """Pictures that open, of the sizes that are told, and a WebVTT that covers the film and the sheet."""
    made = await previews(studio, sample_videos[1], folder)
    assert (made.width, made.height, made.tiles) == (640, 272, 10)
    assert 1 <= made.at <= 4.5
    assert sorted(os.listdir(folder)) == ["poster.jpg", "poster.webp", "sprite.jpg", "thumbnails.vtt"]
    assert folder.joinpath("poster.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert folder.joinpath("poster.webp").read_bytes()[8:12] == b"WEBP"
    for name in ("poster.jpg", "poster.webp"):
        assert (look(folder / name).width, look(folder / name).height) == (640, 272)
    sheet = look(folder / "sprite.jpg")
    cues = re.findall(
        r"(\S+) --> (\S+)\nsprite.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n", (folder / "thumbnails.vtt").read_text()
    )
    assert len(cues) == 10
    assert (cues[0][0], cues[-1][1]) == ("00:00:00.000", "00:00:10.000")
    for start, end, x, y, width, height in cues:
        assert start < end
        assert int(x) + int(width) <= sheet.width
        assert int(y) + int(height) <= sheet.height
    shown = [bytes(sheet.planes[0])[int(x) * 3 + 30 * sheet.planes[0].line_size :][:480] for _, _, x, *_ in cues]
    assert len(set(shown)) == 10, "the film moves, and so does the sheet"


async def test_a_phones_film_stands_upright(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """The matrix of the container turns it: red was left, and is at the bottom after a quarter to the left."""
    made = await previews(studio, film(tmp_path / "a.mp4", [halves(320, 180)] * 10, rotation=90), folder)
    assert (made.width, made.height) == (180, 320)
    poster = look(folder / "poster.jpg")
    (red, _, blue), (red_, _, blue_) = pixel(poster, 90, 300), pixel(poster, 90, 20)
    assert red > 200 > blue
    assert blue_ > 200 > red_
    sheet = look(folder / "sprite.jpg")
    assert (sheet.width, sheet.height) == (2 * 160, 284)
    assert pixel(sheet, 80, 270)[0] > 200


async def test_a_single_picture_is_a_film_too(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """A poster, and a sheet of one."""
    made = await previews(studio, film(tmp_path / "a.mp4", [halves(64, 48)]), folder)
    assert (made.width, made.height, made.tiles) == (64, 48, 1)


async def test_oblong_pixels_are_made_square(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """Anamorphic 16:9 in 4:3."""
    frames = [halves(240, 180)] * 10
    made = await previews(studio, film(tmp_path / "a.mkv", frames, aspect=Fraction(4, 3)), folder)
    assert (made.width, made.height) == (320, 180)


async def test_a_large_film_has_a_small_poster(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """1280 pixels, either way."""
    made = await previews(studio, film(tmp_path / "a.mp4", [halves(1920, 1080)] * 5), folder)
    assert (made.width, made.height) == (1280, 720)
    assert pixel(look(folder / "poster.webp"), 100, 300)[0] > 200


async def test_the_poster_is_not_black(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """Where any of the pictures is not."""
    black = [halves(320, 180, (16, 128, 128), (16, 128, 128)) for _ in range(30)]
    frames = [*black[:9], halves(320, 180), halves(320, 180), *black]
    made = await previews(studio, film(tmp_path / "a.mp4", frames), folder)
    assert made.at == pytest.approx(1.8, abs=0.41)
    assert pixel(look(folder / "poster.jpg"), 10, 90)[0] > 200


async def test_hdr_is_brought_down_to_what_screens_show(studio: ChildStudio, folder: Path, tmp_path: Path) -> None:
    """White at 203 candela (58 % of the PQ curve) is light, and not the grey that it would be taken as it is."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx265", rate=5, options={"preset": "ultrafast", "x265-params": "log-level=none"}
        )
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p10le"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 16
        stream.codec_context.colorspace = 9
        for number in range(10):
            frame = halves(320, 180, (16 + 127, 128, 128), (16, 128, 128)).reformat(format="yuv420p10le")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            frame.color_trc, frame.color_primaries, frame.colorspace = 16, 9, 9
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    await previews(studio, path, folder)
    poster = look(folder / "poster.jpg")
    assert min(pixel(poster, 20, 90)) > 175
    assert max(pixel(poster, 300, 90)) < 10


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".avi", ".webm", ".mov", ".ts"])
async def test_every_container(
    studio: ChildStudio, folder: Path, tmp_path: Path, make_video: Callable[..., Path], extension: str
) -> None:
    """A poster and a sheet of each."""
    if extension == ".ts":
        path = film(tmp_path / "a.ts", [halves(160, 120)] * 15)
    else:
        path = make_video(tmp_path / f"a{extension}", 3.0, sound=True)
    made = await previews(studio, path, folder)
    assert (made.width, made.height, made.tiles) == (160, 120, 3)


async def test_what_does_not_say_how_long_it_is_has_a_poster_only(
    studio: ChildStudio, folder: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """A raw stream."""
    raw = tmp_path / "a.h264"
    with av.open(str(make_video(tmp_path / "a.mp4", 2.0))) as source, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    made = await previews(studio, raw, folder)
    assert made.tiles == 0
    assert sorted(os.listdir(folder)) == ["poster.jpg", "poster.webp"]


async def test_of_a_damaged_film_what_decodes_is_shown(
    studio: ChildStudio, folder: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """A third of it is missing, and zeros are in the middle."""
    data = bytearray(make_video(tmp_path / "a.mkv", 6.0, width=320, height=180).read_bytes())
    data[len(data) // 3 : len(data) // 3 + 500] = bytes(500)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    made = await previews(studio, cut, folder)
    assert (made.width, made.height) == (320, 180)
    assert look(folder / "poster.jpg").width == 320


async def test_a_long_film_takes_keyframes_only(
    studio: ChildStudio, folder: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """Three hours, of which nearly nothing is decoded: the sheet has its hundred pictures at most."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1, 8), options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(1350):
            frame = halves(1280, 720, (20 + number * 200 // 1350, 90, 200))
            frame.pts, frame.time_base = number, Fraction(8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    made = await previews(studio, path, folder)
    assert made.tiles == 90
    assert "02:58:00.000 --> 03:00:00.000" in (folder / "thumbnails.vtt").read_text()
    sheet = look(folder / "sprite.jpg")
    brightness = [sum(pixel(sheet, 160 * (n % 10) + 40, 90 * (n // 10) + 45)) for n in range(90)]
    assert brightness == sorted(brightness), "each is of its own time"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, "gone"),
        (os.mkfifo, "unreadable"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "no_video"),
        (lambda path: path.write_bytes(b"\x93\x01\x02\x80" * 999), "unreadable"),
    ],
    ids=["gone", "fifo", "png", "noise"],
)
async def test_what_is_no_video_has_none(
    studio: ChildStudio, folder: Path, tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    """Said why, and nothing lies there."""
    make(tmp_path / "thing.mp4")
    failure = await studio.preview(PreviewJob(OsPath(str(tmp_path / "thing.mp4")), OsPath(str(folder))))
    assert isinstance(failure, MediaFailure)
    assert failure.kind == kind
    assert os.listdir(folder) == []


async def test_a_picture_that_would_fill_the_memory_is_not_decoded(
    studio: ChildStudio, folder: Path, tmp_path: Path
) -> None:
    """A header that says 20,000 pixels, either way."""
    path = film(tmp_path / "a.mkv", [halves(320, 320)] * 5, encoder="rawvideo")
    bomb = path.read_bytes().replace(b"\xb0\x82\x01\x40\xba\x82\x01\x40", b"\xb0\x82\x4e\x20\xba\x82\x4e\x20")
    path.write_bytes(bomb)
    failure = await studio.preview(PreviewJob(OsPath(str(path)), OsPath(str(folder))))
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "unreadable"


async def test_a_folder_that_cannot_be_written_is_said(
    studio: ChildStudio, tmp_path: Path, make_video: Callable[..., Path], tmpfs: Path
) -> None:
    """Not there, or full."""
    video = OsPath(str(make_video(tmp_path / "a.mp4")))
    failure = await studio.preview(PreviewJob(video, OsPath(str(tmp_path / "nowhere"))))
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "unwritable"
    with tmpfs.joinpath("filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
        while True:
            filler.write(bytes(4096))
    failure = await studio.preview(PreviewJob(video, OsPath(str(tmpfs))))
    assert isinstance(failure, MediaFailure)
    assert failure.kind == "disk_full"


@pytest.mark.parametrize("duration", [0.04, 0.5, 1, 5.3, 99.9, 100, 101, 7200, 90_000, 1e9])
def test_small_pictures_cover_any_length(duration: float) -> None:
    """A hundred at most, each at a time of its own within the film."""
    times = times_of(duration)
    assert 1 <= len(times) <= 100
    assert times == sorted(set(times))
    assert 0 < times[0] <= times[-1] < duration
    assert interval_of(duration) * len(times) >= duration * 0.999
