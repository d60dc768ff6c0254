"""What came down becomes one file that players know, without being encoded again; hostile files cost that one job."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from processors.media.containers import container_for
from processors.media.studio import ChildStudio, open_studio
from processors.ports import FinishedFile, FinishJob, MediaFailure
from streams.paths import OsPath
from streams.settings import Settings

_MAKE = """
import sys, orjson, av
from fractions import Fraction
from tests.videos import _as, _picture, _silence
for path, muxer, picture, sound, offset, options in orjson.loads(sys.argv[1]):
    with av.open(path, "w", format=muxer, options=options) as container:
        packets, rate, seconds = [], 10, 2
        if picture:
            video = container.add_stream(picture, rate=rate)
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
            video.codec_context.time_base = Fraction(1, rate)
            video.options = {"preset": "ultrafast", "deadline": "realtime", "cpu-used": "8"} if "26" not in picture else {
                "preset": "ultrafast", "x265-params": "log-level=none"}
        if sound:
            audio = container.add_stream(sound, rate=48000, layout="mono")
        if picture:
            for number in range(seconds * rate):
                frame = _picture(160, 120, number, 0)
                frame.pts = number + offset * rate
                packets += video.encode(frame)
            packets += video.encode(None)
        if sound:
            fifo, at = av.AudioFifo(), offset * 48000
            fifo.write(_silence(48000 * seconds))
            while (frame := fifo.read(audio.codec_context.frame_size or 1024, partial=True)) is not None:
                frame.pts, frame.sample_rate, frame.time_base = at, 48000, Fraction(1, 48000)
                at += frame.samples
                packets += audio.encode(_as(frame, audio.codec_context.format.name))
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
"""

_LOOK = """
import sys, orjson, av
found = []
for path in sys.argv[1:]:
    with av.open(path) as container:
        streams = [one for one in container.streams if one.codec_context is not None]
        found.append({
            "format": container.format.name, "seconds": container.duration / av.time_base,
            "codecs": [one.codec_context.codec.canonical_name for one in streams],
            "tags": [one.codec_tag for one in streams],
            "starts": [float((one.start_time or 0) * one.time_base) for one in streams],
            "metadata": {**dict(container.metadata), **dict(streams[0].metadata)},
            "chapters": [one["metadata"].get("title") for one in container.chapters()],
            "frames": sum(1 for _ in container.decode(video=0)) if container.streams.video else 0,
        })
sys.stdout.buffer.write(orjson.dumps(found))
"""


def made(*wanted: Sequence[Any]) -> None:
    """Write media files: path, muxer, codecs of picture and sound, seconds at which they begin, muxer's options."""
    files = [[str(path), *rest] for path, *rest in wanted]
    command = [sys.executable, "-c", _MAKE, orjson.dumps(files).decode()]
    subprocess.run(command, check=True, timeout=120, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)


def looked_at(*paths: Path) -> list[dict[str, Any]]:
    """What is in them."""
    done = subprocess.run([sys.executable, "-c", _LOOK, *map(str, paths)], capture_output=True, check=True, timeout=120)
    found: list[dict[str, Any]] = orjson.loads(done.stdout)
    return found


@pytest_asyncio.fixture
async def studio(make_settings: Callable[..., Settings]) -> AsyncIterator[ChildStudio]:
    """The real one."""
    async with open_studio(make_settings(media_nice=0)) as studio:
        yield studio


async def finished(studio: ChildStudio, target: Path, *media: Path, audio_only: bool = False, **tags: str) -> Any:
    """What the studio says in the end."""
    chapters = ({"start": 0, "end": 1, "title": "One"}, {"start": 1, "end": 2, "title": ""}, {"start": 5, "end": 1})
    job = FinishJob(tuple(OsPath(str(one)) for one in media), OsPath(str(target)), tags, chapters, audio_only)
    return [said async for said in studio.finish(job)][-1]


async def test_each_combination_gets_a_container_that_players_know(studio: ChildStudio, tmp_path: Path) -> None:
    """Picture and sound from one file or two, a broadcast, fragments, and codecs that MP4 does not take."""
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    made(
        (tmp_path / "whole.mp4", "mp4", "libx264", "aac", 0, {}),
        (tmp_path / "broadcast.ts", "mpegts", "libx264", "aac", 7, {}),
        (tmp_path / "later.ts", "mpegts", "libx264", "aac", 100, {}),
        (tmp_path / "picture.mp4", "mp4", "libx264", None, 0, fragmented),
        (tmp_path / "sound.mp4", "mp4", None, "aac", 0, fragmented),
        (tmp_path / "picture.webm", "webm", "libvpx-vp9", None, 0, {}),
        (tmp_path / "sound.webm", "webm", None, "libopus", 0, {}),
        (tmp_path / "hevc.ts", "mpegts", "libx265", "aac", 3, {}),
        (tmp_path / "old.avi", "avi", "mpeg4", "pcm_s16le", 0, {}),
        (tmp_path / "sound.mp3", "mp3", None, "libmp3lame", 0, {}),
    )
    joined = (tmp_path / "broadcast.ts").read_bytes() + (tmp_path / "later.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(joined)
    cases: list[tuple[list[str], bool, str, list[str], int]] = [
        (["whole.mp4"], False, "mp4", ["h264", "aac"], 20),
        (["broadcast.ts"], False, "mp4", ["h264", "aac"], 20),
        (["joined.ts"], False, "mp4", ["h264", "aac"], 40),
        (["picture.mp4", "sound.mp4"], False, "mp4", ["h264", "aac"], 20),
        (["picture.webm", "sound.webm"], False, "mp4", ["vp9", "opus"], 20),
        (["hevc.ts"], False, "mp4", ["hevc", "aac"], 20),
        (["old.avi"], False, "mkv", ["mpeg4", "pcm_s16le"], 20),
        (["whole.mp4"], True, "m4a", ["aac"], 0),
        (["sound.webm"], True, "opus", ["opus"], 0),
        (["sound.mp3"], True, "mp3", ["mp3"], 0),
        (["sound.mp3"], False, "mp3", ["mp3"], 0),
    ]
    targets = []
    for number, (names, audio_only, container, _, _) in enumerate(cases):
        targets.append(tmp_path / f"made-{number}")
        said = await finished(
            studio,
            targets[-1],
            *(tmp_path / name for name in names),
            audio_only=audio_only,
            title="Tïtle",
            date="2024-05-06",
        )
        assert isinstance(said, FinishedFile), (names, said)
        assert said.container == container, names
    for found, (names, _, _, codecs, frames) in zip(looked_at(*targets), cases, strict=True):
        assert found["codecs"] == codecs, names
        assert found["frames"] == frames, names
        length = 2 * frames // 20 if frames else 2
        assert abs(found["seconds"] - length) < 0.15, (names, found)
        assert all(start < 0.06 for start in found["starts"]), (names, found["starts"])
        assert {name.lower(): text for name, text in found["metadata"].items()}["title"] == "Tïtle", names
        if "mp4" in found["format"]:
            assert found["chapters"] == ["One", "Chapter 2"], names
        if codecs[0] == "hevc":
            assert found["tags"][0] == "hvc1", "else Apple's players do not play it"
    head = targets[0].read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "it can be played while it still comes in"


async def test_what_is_no_video_is_refused_and_leaves_nothing(studio: ChildStudio, tmp_path: Path) -> None:
    """An error page, half a file, noise, a picture that is a link to elsewhere: one reason each."""
    made((tmp_path / "whole.mp4", "mp4", "libx264", "aac", 0, {}))
    whole = (tmp_path / "whole.mp4").read_bytes()
    bad = {
        "page.mp4": b"<!doctype html><html><body>Not found</body></html>",
        "cut.mp4": whole[:-2000],
        "empty.mp4": b"",
        "noise.mp4": os.urandom(50_000),
        "list.mp4": b"#EXTM3U\nfile:///etc/passwd\n",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        said = await finished(studio, tmp_path / "made", tmp_path / name)
        assert isinstance(said, MediaFailure), name
        assert said.kind in {"no_video", "unreadable"}, (name, said)
        assert not (tmp_path / "made").exists()
    said = await finished(studio, tmp_path / "made", tmp_path / "gone.mp4")
    assert isinstance(said, MediaFailure)
    assert said.kind == "gone"
    said = await finished(studio, tmp_path / "nowhere" / "made", tmp_path / "whole.mp4")
    assert isinstance(said, MediaFailure)
    assert said.kind == "unwritable"


async def test_any_picture_becomes_a_jpeg_of_sane_size(studio: ChildStudio, tmp_path: Path) -> None:
    """And a film its most telling one; what is no picture is refused."""
    make = (
        "import sys, av; from fractions import Fraction; from tests.videos import _picture\n"
        "for name, codec, pixels, size in (('a.webp', 'libwebp', 'yuv420p', (3000, 300)), ('b.png', 'png', 'rgba', (40, 50))):\n"
        "    frame = _picture(*size, 1, 0).reformat(format=pixels)\n"
        "    context = av.CodecContext.create(codec, 'w')\n"
        "    context.width, context.height, context.pix_fmt, context.time_base = *size, pixels, Fraction(1, 25)\n"
        "    data = b''.join(bytes(one) for one in [*context.encode(frame), *context.encode(None)])\n"
        "    open(sys.argv[1] + '/' + name, 'wb').write(data)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", make, str(tmp_path)], check=True, timeout=60, cwd=root)
    made((tmp_path / "film.mp4", "mp4", "libx264", None, 0, {}))
    sizes = []
    for name in ("a.webp", "b.png", "film.mp4"):
        target = tmp_path / f"{name}.jpg"
        assert await studio.still(OsPath(str(tmp_path / name)), OsPath(str(target))) is None
        assert target.read_bytes().startswith(b"\xff\xd8\xff")
        look = "import sys, av; s = av.open(sys.argv[1]).streams.video[0]; print(s.width, s.height)"
        done = subprocess.run(
            [sys.executable, "-c", look, str(target)], capture_output=True, text=True, timeout=60, check=True
        )
        sizes.append(tuple(map(int, done.stdout.split())))
    assert sizes == [(2000, 200), (40, 50), (160, 120)]
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(500))
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("bad.png", "text.jpg", "gone.jpg"):
        failure = await studio.still(OsPath(str(tmp_path / name)), OsPath(str(tmp_path / "made.jpg")))
        assert failure is not None
        assert failure.kind in {"unreadable", "no_video", "gone"}, (name, failure)


@pytest.mark.parametrize(
    ("codecs", "only_sound", "extension"),
    [
        (["h264", "aac"], False, "mp4"),
        (["av1", "opus"], False, "mp4"),
        (["hevc", "eac3", "aac"], False, "mp4"),
        (["vp8", "vorbis"], False, "mkv"),
        (["h264", "dts"], False, "mkv"),
        (["aac", "aac"], True, "mka"),
        (["flac"], True, "mka"),
        (["vorbis"], True, "ogg"),
    ],
)
def test_containers_are_chosen_by_their_codecs(codecs: list[str], only_sound: bool, extension: str) -> None:
    """MP4 where all fit, for browsers play nothing else."""
    assert container_for(codecs, only_sound=only_sound).extension == extension
