"""Renditions of tiny real videos of every kind: what is made of them, and that nothing of them is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from processors.media.enhancing import enhance
from processors.media.planning import plan
from processors.ports import Advanced, Made, MediaFailure, Planned
from streams.paths import escape_path
from streams.presets import BUILT_IN
from tests.clips import Clip, digest, lumas, make_clip, onset, paint, picture, psnr, times
from tests.videos import make_video


class Studio:
    """Calls the engine, and holds it to its words."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "made"
        self.planned: list[Planned] = []
        self.advanced: list[Advanced] = []

    def enhance(self, path: Path, **changes: Any) -> Made | MediaFailure:
        """Make something of it: the fields of a job, `preset` being changes to `plain`, and `encoders`."""
        preset = {**BUILT_IN["plain"].model_dump(), "speed": "ultrafast", **changes.pop("preset", {})}
        encoders = {"encoders": changes.pop("encoders")} if "encoders" in changes else {}
        job = {
            "path": escape_path(str(path)),
            "target": escape_path(str(self.target)),
            "kind": "progressive",
            "mode": "auto",
            "preset": preset,
            "height": None,
            "segment": 1.0,
            "media_name": "m.mp4",
            "threads": 2,
            **changes,
        }
        answer = enhance(job, self._tell, **encoders)
        if "made" in answer:
            fields = {**answer["made"], "warnings": tuple(answer["made"]["warnings"])}
            made = Made(**fields)
            assert self.planned[-1].encoder == made.encoder
            assert made.peak_memory > 0
            return made
        assert not self.target.exists() or not self.target.stat().st_size
        return MediaFailure(**answer["failure"])

    def made(self, path: Path, **changes: Any) -> Made:
        """The same where it must succeed."""
        made = self.enhance(path, **changes)
        assert isinstance(made, Made), made
        return made

    def _tell(self, message: dict[str, Any]) -> None:
        ((kind, fields),) = message.items()
        if kind == "planned":
            self.planned.append(Planned(**fields))
        else:
            self.advanced.append(Advanced(**fields))


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """Makes `studio.target`."""
    return Studio(tmp_path)


def boxes(path: Path) -> list[str]:
    """The outermost boxes of an MP4 file."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return found


def began(path: Path) -> float:
    """Seconds at which the first of its streams begins."""
    with av.open(str(path)) as container:
        return (container.start_time or 0) / av.time_base


SOURCES = {
    "mp4": Clip(options={"bf": "2"}),
    "mov": Clip(muxer="mov", codec="prores_ks", pix_fmt="yuv422p10le", sound="pcm_s16le"),
    "mkv-hevc": Clip(muxer="matroska", codec="libx265", sound="libopus", options={"x265-params": "log-level=none"}),
    "avi-mpeg4": Clip(muxer="avi", codec="mpeg4", sound="libmp3lame", options={"bf": "2"}),
    "avi-msmpeg4": Clip(muxer="avi", codec="msmpeg4", sound="pcm_s16le"),
    "avi-mjpeg": Clip(muxer="avi", codec="mjpeg", pix_fmt="yuvj422p", sound=None),
    "webm": Clip(muxer="webm", codec="libvpx-vp9", sound="libopus", options={"deadline": "realtime", "cpu-used": "8"}),
    "ts": Clip(muxer="mpegts", codec="mpeg2video", sound="mp2"),
    "flv": Clip(muxer="flv", codec="flv1", sound="libmp3lame", sound_rate=44100),
    "asf": Clip(muxer="asf", codec="wmv2", sound="wmav2"),
    "444": Clip(muxer="matroska", pix_fmt="yuv444p"),
    "10-bit": Clip(muxer="matroska", pix_fmt="yuv420p10le"),
    "rgb": Clip(muxer="matroska", codec="ffv1", pix_fmt="bgr0", sound="flac"),
    "grey": Clip(muxer="avi", codec="ffv1", pix_fmt="gray", sound=None),
    "alpha": Clip(muxer="mov", codec="qtrle", pix_fmt="argb", sound=None),
    "odd": Clip(muxer="matroska", codec="ffv1", width=101, height=75),
    "tiny": Clip(muxer="nut", codec="rawvideo", width=3, height=5, sound=None),
    "mono-low": Clip(muxer="matroska", sound="pcm_s16le", layout="mono", sound_rate=11025),
    "surround": Clip(muxer="matroska", sound="flac", layout="5.1"),
    "one-frame": Clip(muxer="avi", codec="mpeg4", frames=1, sound=None),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("cleanup", ["none", "light"])
def test_every_kind_becomes_h264_and_aac_to_the_last_picture(
    studio: Studio, tmp_path: Path, name: str, cleanup: str
) -> None:
    """Same number of pictures, shown at the same times, and they look like the source's."""
    clip = SOURCES[name]
    source = make_clip(tmp_path / "source", clip)
    made = studio.made(source, mode="always", preset={"cleanup": cleanup, "crf": 12})
    assert (made.action, made.encoder, made.container, made.damage) == ("encode", "libx264", "mp4", None)
    assert boxes(studio.target)[:2] == ["ftyp", "moov"]
    assert {"av", "ffmpeg", "libavcodec", "x264"} <= made.tools.keys()
    with av.open(str(studio.target)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == (made.width, made.height)
        assert [one.codec_context.name for one in container.streams.audio] == (["aac"] if clip.sound else [])
    assert made.width == max(2, clip.width - clip.width % 2)
    before, after = lumas(source), lumas(studio.target)
    assert len(before) == len(after) == made.frames == clip.frames
    ours, theirs = times(studio.target), times(source)
    assert ours == pytest.approx([one - began(source) for one in theirs], abs=0.03)
    assert re.fullmatch(r"avc1\.[0-9a-f]{6}(,mp4a\.40\.2)?", made.codecs)
    if min(clip.width, clip.height) > 16:
        for one, other in zip(before, after, strict=True):
            height, width = other.shape
            assert psnr(other, one[:height, :width]) > 24


def test_what_plays_everywhere_is_not_encoded_again(studio: Studio, tmp_path: Path) -> None:
    """Moved into MP4 with its index in front; every byte of picture and sound is the same."""
    clip = Clip(muxer="matroska", options={"bf": "2"}, metadata={"title": "Ein Film", "location": "+48.2+16.4/"})
    source = make_clip(tmp_path / "source", clip)
    made = studio.made(source, preset={"cleanup": "light", "loudness": True})
    assert (made.action, made.encoder, made.reason) == ("remux", "copy", "already H.264 yuv420p and AAC")
    assert boxes(studio.target)[:2] == ["ftyp", "moov"]
    assert made.frames == 25
    assert made.codecs.startswith("avc1.64")
    for kind in ("video", "audio"):
        assert digest(studio.target, kind) == digest(source, kind)
    assert times(studio.target) == pytest.approx(times(source), abs=0.002)


@pytest.mark.parametrize("muxer", ["mp4", "mov", "mpegts", "flv"])
def test_every_container_with_times_can_be_taken_as_it_is(studio: Studio, tmp_path: Path, muxer: str) -> None:
    """Same pictures, whatever form their packets have there."""
    source = make_clip(tmp_path / "source", Clip(muxer=muxer, options={"bf": "2"}))
    made = studio.made(source)
    assert made.action == "remux"
    for one, other in zip(lumas(source), lumas(studio.target), strict=True):
        assert np.array_equal(one, other)
    assert onset(studio.target) == pytest.approx(onset(source) - times(source)[0], abs=0.03)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 4.0])
def test_utter_silence_stays_silent_at_any_length(studio: Studio, tmp_path: Path, seconds: float) -> None:
    """Its loudness is −∞, from which the filter for it makes what is no number, of short ones in a single piece."""
    source = make_video(tmp_path / "source.avi", seconds, sound=True)
    made = studio.made(source, preset={"loudness": True})
    assert (made.audio_codec, made.damage) == ("aac", None)
    with av.open(str(studio.target)) as container:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert len(samples) >= seconds * 48_000
    assert np.abs(samples).max() < 1e-3


def test_only_the_sound_is_encoded_where_only_that_is_amiss(studio: Studio, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source", Clip(muxer="matroska", sound="libmp3lame"))
    made = studio.made(source)
    assert (made.action, made.audio_codec) == ("remux", "aac")
    assert "mp3" in made.reason
    assert digest(studio.target, "video") == digest(source, "video")


@pytest.mark.parametrize(
    ("clip", "preset", "why"),
    [
        (Clip(), {"always": True}, "preset"),
        (Clip(), {"max_height": 36}, "36 lines"),
        (Clip(pix_fmt="yuv444p"), {}, "yuv444p"),
        (Clip(pix_fmt="yuv420p10le"), {}, "yuv420p10le"),
        (Clip(rotation=(90, False)), {}, "side"),
        (Clip(muxer="avi"), {}, "when"),
        (Clip(codec="mpeg4"), {}, "mpeg4 in mov"),
    ],
)
def test_why_it_is_encoded_is_said(
    studio: Studio, tmp_path: Path, clip: Clip, preset: dict[str, Any], why: str
) -> None:
    """In words, before it begins and in what comes out."""
    made = studio.made(make_clip(tmp_path / "source", clip), preset=preset)
    assert made.action == "encode"
    assert why in made.reason
    assert studio.planned[0].reason == made.reason


def test_a_preset_makes_it_smaller(studio: Studio, tmp_path: Path) -> None:
    made = studio.made(make_clip(tmp_path / "source", Clip(width=320, height=180)), preset={"max_height": 90})
    assert (made.width, made.height) == (160, 90)


def test_variable_frame_rate_keeps_its_times(studio: Studio, tmp_path: Path) -> None:
    """Neither a picture more nor one less."""
    stamps = [0, 40, 45, 200, 210, 1000, 1001, 1500]
    source = make_clip(tmp_path / "source", Clip(muxer="matroska", frames=8, times=stamps, sound=None))
    made = studio.made(source, mode="always", preset={"cleanup": "light"})
    assert made.frames == 8
    assert times(studio.target) == pytest.approx([stamp / 1000 for stamp in stamps], abs=0.001)


@pytest.mark.parametrize("rotation", [(90, False), (-90, False), (180, False), (0, True), (90, True), (-90, True)])
def test_what_lies_on_its_side_is_set_upright(studio: Studio, tmp_path: Path, rotation: tuple[float, bool]) -> None:
    """As the display matrix of its container says; it says so no more afterwards."""
    source = make_clip(tmp_path / "source", Clip(rotation=rotation))
    made = studio.made(source, preset={"cleanup": "light", "crf": 12})
    plain, after = lumas(source)[0], lumas(studio.target)[0]
    turned = {
        (90, False): np.rot90(plain),
        (-90, False): np.rot90(plain, -1),
        (180, False): np.rot90(plain, 2),
        (0, True): np.fliplr(plain),
        (90, True): np.fliplr(np.rot90(plain)),
        (-90, True): np.fliplr(np.rot90(plain, -1)),
    }
    assert after.shape == turned[rotation].shape == (made.height, made.width)
    nearness = {which: psnr(after, one) for which, one in turned.items() if one.shape == after.shape}
    assert max(nearness, key=lambda which: nearness[which]) == rotation, nearness
    with av.open(str(studio.target)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_samples_that_are_not_square_become_so(studio: Studio, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source", Clip(codec="mpeg4", width=96, height=72, aspect=Fraction(4, 3)))
    made = studio.made(source)
    assert (made.width, made.height) == (128, 72)


def test_several_sounds_are_kept_the_default_one_first(studio: Studio, tmp_path: Path) -> None:
    made = studio.made(make_clip(tmp_path / "source", Clip(muxer="matroska", sounds=3)), mode="always")
    with av.open(str(studio.target)) as container:
        assert len(container.streams.audio) == 3
    assert made.audio_codec == "aac"


@pytest.mark.parametrize("loudness", [False, True])
@pytest.mark.parametrize(("start", "sound_start"), [(0.0, 0.5), (0.5, 0.0), (3.0, 3.2), (100.0, 100.0)])
def test_sound_stays_with_the_picture(
    studio: Studio, tmp_path: Path, loudness: bool, start: float, sound_start: float
) -> None:
    """Whichever begins first, and whatever the clock said when it did."""
    clip = Clip(muxer="matroska", codec="mpeg4", sound="flac", start=start, sound_start=sound_start)
    studio.made(make_clip(tmp_path / "source", clip), preset={"loudness": loudness})
    apart = onset(studio.target) - times(studio.target)[0]
    assert apart == pytest.approx(sound_start - start, abs=0.03)


def test_loudness_is_brought_to_the_usual(studio: Studio, tmp_path: Path) -> None:
    """A quiet tone becomes louder; nothing is lost at its end."""
    source = make_clip(
        tmp_path / "source", Clip(muxer="matroska", codec="mpeg4", sound="flac", frames=100, volume=0.03)
    )
    loud = {}
    for loudness in (False, True):
        studio.made(source, preset={"loudness": loudness})
        with av.open(str(studio.target)) as container:
            wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        loud[loudness] = float(np.sqrt(np.mean(wave[48000:144000] ** 2)))
        assert len(wave) / 48000 == pytest.approx(4.0, abs=0.05)
    assert loud[False] == pytest.approx(0.021, abs=0.002)
    assert loud[True] > 2 * loud[False]


@pytest.mark.parametrize("cleanup", ["light", "strong"])
def test_clean_up_takes_noise_out(studio: Studio, tmp_path: Path, cleanup: str) -> None:
    """Nearer to the clean source than the noisy one encoded as it is: PSNR, by the same encoder."""
    random = np.random.default_rng(7)

    def noisy(number: int, width: int, height: int) -> np.ndarray:
        noise = random.normal(0, 4 if cleanup == "light" else 10, (height, width))
        return np.clip(still(number, width, height) + noise, 0, 255).astype(np.uint8)

    def still(number: int, width: int, height: int) -> np.ndarray:
        return paint(number // 12, width, height)

    clip = Clip(muxer="matroska", codec="ffv1", pix_fmt="yuv420p", width=192, height=108, frames=36, sound=None)
    source = make_clip(tmp_path / "noisy", clip, noisy)
    clean = lumas(make_clip(tmp_path / "clean", clip, still))
    near = {}
    for which in ("none", cleanup):
        studio.made(source, mode="always", preset={"cleanup": which, "crf": 14, "speed": "veryfast"})
        near[which] = float(np.mean([psnr(*pair) for pair in zip(lumas(studio.target), clean, strict=True)]))
    assert near[cleanup] > near["none"] + 1, near


def test_hdr_is_tone_mapped_and_said(studio: Studio, tmp_path: Path) -> None:
    """One curve only: FFmpeg works out its table for seconds."""
    transfer, curve = 16, "PQ"
    clip = Clip(
        muxer="matroska", codec="libx265", pix_fmt="yuv420p10le", colour=(9, transfer, 9), sound=None,
        options={"x265-params": "log-level=none"},
    )  # fmt: skip
    made = studio.made(make_clip(tmp_path / "source", clip))
    assert any(curve in warning for warning in made.warnings)
    with av.open(str(studio.target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
    assert made.frames == 25


def test_what_is_interlaced_is_not_any_more(studio: Studio, tmp_path: Path) -> None:
    clip = Clip(muxer="mpegts", codec="mpeg2video", interlaced=True, sound=None, height=96)
    source = make_clip(tmp_path / "source", clip)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    made = studio.made(source)
    assert made.frames == 25
    assert "bwdif" in made.parameters["filters"]["picture"][0]
    with av.open(str(studio.target)) as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))


def test_pictures_that_change_their_size_are_brought_to_the_first_ones(studio: Studio, tmp_path: Path) -> None:
    """As broadcasts do."""
    first = make_clip(tmp_path / "a", Clip(muxer="mpegts", codec="mpeg2video", sound=None))
    second = make_clip(tmp_path / "b", Clip(muxer="mpegts", codec="mpeg2video", sound=None, width=192, height=144))
    source = tmp_path / "source"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    made = studio.made(source, preset={"cleanup": "light"})
    assert (made.width, made.height) == (128, 72)
    assert made.frames == len(lumas(source)) >= 49
    assert len(made.parameters["filters"]["picture"]) == 2


def test_chapters_and_titles_are_kept_and_places_are_not(studio: Studio, tmp_path: Path) -> None:
    source = tmp_path / "source"
    plain = make_clip(
        tmp_path / "plain",
        Clip(muxer="mov", codec="mpeg4", metadata={"title": "Ein Film", "location": "+48.2082+016.3738/"},
             container_options={"movflags": "use_metadata_tags"}),
    )  # fmt: skip
    with av.open(str(plain)) as reading, av.open(str(source), "w", format="mov") as writing:
        writing.metadata.update(reading.metadata)
        base = Fraction(1, 1000)
        writing.set_chapters(
            [{"id": n, "start": n * 500, "end": n * 500 + 500, "time_base": base, "metadata": {"title": f"Teil {n}"}}
             for n in range(2)]
        )  # fmt: skip
        stream = writing.add_stream_from_template(reading.streams.video[0], opaque=True)
        for packet in reading.demux(video=0):
            if packet.size:
                packet.stream = stream
                writing.mux(packet)
    assert b"+48.2082" in source.read_bytes()
    studio.made(source)
    with av.open(str(studio.target)) as container:
        assert container.metadata["title"] == "Ein Film"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["Teil 0", "Teil 1"]
    assert b"+48.2082" not in studio.target.read_bytes()


# ---------------------------------------------------------------- adaptive streaming


def test_a_rung_of_a_ladder(studio: Studio, tmp_path: Path) -> None:
    """Segments begin with key frames at their times, and each decodes from the bytes that the playlist names."""
    source = make_clip(tmp_path / "source", Clip(width=256, height=144, frames=80, options={"bf": "2"}))
    made = studio.made(source, kind="hls", height=72, segment=1.0, media_name="rung 72.mp4")
    assert (made.width, made.height, made.container) == (128, 72, "mp4")
    text = Path(f"{studio.target}.m3u8").read_text()
    header = re.search(r'EXT-X-MAP:URI="rung 72.mp4",BYTERANGE="(\d+)@0"', text)
    assert header is not None
    parts = re.findall(r"#EXTINF:([\d.]+),\n#EXT-X-BYTERANGE:(\d+)@(\d+)\nrung 72.mp4\n", text)
    assert [float(seconds) for seconds, _, _ in parts] == pytest.approx([1, 1, 1, 0.2], abs=0.001)
    data = studio.target.read_bytes()
    at, frames, rates = int(header[1]), 0, []
    for number, (seconds, length, offset) in enumerate(parts):
        assert int(offset) == at
        at += int(length)
        rates.append(8 * int(length) / float(seconds))
        alone = tmp_path / "alone.mp4"
        alone.write_bytes(data[: int(header[1])] + data[int(offset) : at])
        with av.open(str(alone)) as container:
            shown = list(container.decode(video=0))
        assert shown[0].key_frame
        assert shown[0].time == pytest.approx(number, abs=0.1)
        frames += len(shown)
    assert at == len(data)
    assert frames == made.frames == 80
    assert max(rates[:-1]) - 1 <= made.bit_rate


def test_key_frames_of_all_rungs_stand_at_the_same_times(studio: Studio, tmp_path: Path) -> None:
    stamps = [n * 37 + (n % 3) * 5 for n in range(70)]
    source = make_clip(tmp_path / "source", Clip(muxer="matroska", frames=70, times=stamps, sound=None, height=144))
    found = []
    for height in (144, 96, 48):
        studio.made(source, kind="hls", height=height, segment=0.5)
        found.append(re.findall(r"EXTINF:([\d.]+)", Path(f"{studio.target}.m3u8").read_text()))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 6


# ---------------------------------------------------------------- fallbacks


def test_without_h264_it_becomes_vp9_in_webm(studio: Studio, tmp_path: Path) -> None:
    """Each encoder that was tried is told, and said."""
    source = make_clip(tmp_path / "source", Clip(codec="mpeg4", frames=10))
    made = studio.made(source, encoders=("h264_nvenc", "libvpx-vp9"))
    assert [planned.encoder for planned in studio.planned] == ["h264_nvenc", "libvpx-vp9"]
    assert (made.container, made.mime, made.video_codec, made.audio_codec) == ("webm", "video/webm", "vp9", "opus")
    assert made.codecs == "vp09.00.10.08,opus"
    assert any("h264_nvenc failed" in warning for warning in made.warnings)
    assert len(lumas(studio.target)) == made.frames == 10


def test_a_ladder_may_fall_back_too(studio: Studio, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source", Clip(frames=30))
    made = studio.made(source, kind="hls", height=72, encoders=("h264_nvenc", "libvpx-vp9"))
    assert (made.container, made.codecs) == ("mp4", "vp09.00.10.08,mp4a.40.2")


def test_no_encoder_at_all(studio: Studio, tmp_path: Path) -> None:
    failed = studio.enhance(make_clip(tmp_path / "source", Clip(codec="mpeg4")), encoders=("h264_nvenc",))
    assert isinstance(failed, MediaFailure)
    assert failed.kind == "unencodable"


# ---------------------------------------------------------------- bad input, and faults


@pytest.mark.parametrize("name", ["mp4", "mkv-hevc", "avi-mpeg4", "ts", "webm", "avi-mjpeg"])
def test_of_a_damaged_file_what_decodes_is_kept(studio: Studio, tmp_path: Path, name: str, rng: Any) -> None:
    """Bytes overwritten in its middle, and its end cut off: still a whole rendition, and the damage is said."""
    source = make_clip(tmp_path / "source", SOURCES[name])
    data = bytearray(source.read_bytes())
    if name == "mp4":  # with its index in front, for without it there is nothing to read
        made = studio.made(source)
        data = bytearray(studio.target.read_bytes())
    middle = len(data) // 2
    for _ in range(20):
        at = middle + rng.randrange(len(data) // 4)
        data[at : at + 20] = rng.randbytes(20)
    source.write_bytes(data[: len(data) * 9 // 10])
    made = studio.made(source, mode="always")
    assert 5 <= made.frames <= 25
    assert made.damage or name in ("ts", "avi-mjpeg", "webm")
    assert len(lumas(studio.target)) == made.frames


def test_a_file_that_shrinks_while_it_is_read(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there is kept."""
    source = make_clip(tmp_path / "source", Clip(muxer="mpegts", codec="mpeg2video", width=320, height=180, frames=50))

    def cut(found: Any, job: Any, **more: Any) -> Any:
        os.truncate(source, source.stat().st_size // 2)
        return plan(found, job, **more)

    monkeypatch.setattr("processors.media.enhancing.plan", cut)
    made = studio.made(source)
    assert 10 < made.frames < 50
    assert made.damage is not None
    assert "became shorter" in made.damage


def test_packets_that_do_not_decode_are_counted(studio: Studio, tmp_path: Path) -> None:
    clip = Clip(muxer="mov", codec="png", pix_fmt="rgb24", sound=None, frames=10)
    source = make_clip(tmp_path / "source", clip)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for pos, size in places[4:6]:
        at = data.find(b"\x89PNG", pos)
        data[at : at + size] = bytes(size)
    source.write_bytes(data)
    made = studio.made(source)
    assert made.damage is not None
    assert made.damage.startswith("2 packets of the picture did not decode, first at 0.2 s")
    assert made.frames == 8


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, "gone"),
        (lambda path: path.mkdir(), "unreadable"),
        (os.mkfifo, "unreadable"),
        (lambda path: path.write_bytes(b""), "unreadable"),
        (lambda path: path.write_bytes(b"\x93\x01\x02\x80" * 999), "unreadable"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "no_video"),
        (lambda path: path.write_bytes(b"YUV4MPEG2 W10000 H10000 F25:1 Ip C420\nFRAME\n" + bytes(9)), "too_large"),
    ],
    ids=["gone", "folder", "fifo", "empty", "noise", "png", "bomb"],
)
def test_what_nothing_can_be_made_of(studio: Studio, tmp_path: Path, make: Callable[[Path], object], kind: str) -> None:
    make(tmp_path / "source")
    failed = studio.enhance(tmp_path / "source")
    assert isinstance(failed, MediaFailure)
    assert (failed.kind, bool(failed.reason)) == (kind, True)


def test_a_header_that_lies_about_its_size(studio: Studio, tmp_path: Path, sample_videos: list[Path]) -> None:
    """Answered, and the pictures that are there are what counts."""
    data = bytearray(sample_videos[1].read_bytes())
    at = data.find(b"avc1", data.find(b"stsd"))
    data[at + 28 : at + 32] = b"\xff\xff\xff\xff"
    bomb = tmp_path / "source"
    bomb.write_bytes(data)
    answer = studio.enhance(bomb)
    assert isinstance(answer, Made) or answer.kind == "too_large"


def test_sound_without_a_picture(studio: Studio, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "source"), "w", format="matroska") as container:
        audio = container.add_stream("pcm_s16le", rate=48000)
        frame = av.AudioFrame(format="s16", layout="stereo", samples=1024)
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    failed = studio.enhance(tmp_path / "source")
    assert isinstance(failed, MediaFailure)
    assert failed.kind == "no_video"


@pytest.mark.parametrize("tmpfs", ["200k"], indirect=True)
@pytest.mark.parametrize("kind", ["progressive", "hls"])
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_full_disk_is_said_and_left_empty(tmpfs: Path, tmp_path: Path, kind: str, mode: str) -> None:
    noise = np.random.default_rng(3)

    def painted(_number: int, width: int, height: int) -> np.ndarray:
        return noise.integers(0, 255, (height, width), dtype=np.uint8)

    source = make_clip(tmp_path / "source", Clip(frames=40, options={"crf": "10"}), painted)
    assert source.stat().st_size > 250_000
    failed = Studio(tmpfs).enhance(source, kind=kind, mode=mode, height=72, preset={"crf": 5})
    assert isinstance(failed, MediaFailure)
    assert failed.kind == "disk_full"
    assert sum(path.stat().st_size for path in tmpfs.iterdir()) == 0


def test_a_target_that_cannot_be_written(studio: Studio, tmp_path: Path) -> None:
    studio.target = tmp_path / "nowhere" / "made"
    failed = studio.enhance(make_clip(tmp_path / "source", Clip()))
    assert isinstance(failed, MediaFailure)
    assert failed.kind == "unwritable"


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xff\\\n"))
    folder.mkdir()
    assert isinstance(Studio(folder).enhance(make_clip(tmp_path / "a", Clip()).rename(folder / "source")), Made)
    assert (folder / "made").exists()


def test_an_end_that_the_header_lies_about_is_never_passed(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Percent stays at 100 at most."""
    monkeypatch.setattr("processors.media.progress.EVERY", 0.0)
    source = make_clip(tmp_path / "source", Clip(muxer="matroska", codec="mpeg4", sound=None))
    data = bytearray(source.read_bytes())
    at = data.find(b"\x44\x89\x88")
    assert at > 0
    data[at + 3 : at + 11] = bytes.fromhex("4059000000000000")  # 100 ms
    source.write_bytes(data)
    studio.made(source)
    percents = [one.percent for one in studio.advanced]
    assert percents
    assert max(one for one in percents if one is not None) == 100
    assert studio.advanced[-1].frames == 25


def test_a_picture_only_for_the_test_of_tests() -> None:
    """What the clips are compared with is what they show."""
    assert psnr(paint(0, 64, 48), picture(paint(0, 64, 48)).reformat(format="gray").to_ndarray()) > 30
