"""What is decided about a video, and the small parts that making one is put together from."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from processors.media.boxes import Box
from processors.media.crew import Crew, StoppedError
from processors.media.damage import Damage
from processors.media.filtering import picture_filters, sound_filters
from processors.media.inspecting import Inspected, Picture, Sound
from processors.media.making import look_of
from processors.media.planning import plan, size_of
from processors.media.progress import Progress
from processors.media.segments import Segment, SegmentsError, peak_bit_rate, playlist, segments_of
from streams.presets import BUILT_IN

PICTURE = Picture(
    index=0, codec="h264", profile="High", level=40, pix_fmt="yuv420p", bits=8, width=1920, height=1080,
    aspect=Fraction(1), turn="", rotation=0, interlaced=False, transfer=1, primaries=1, matrix=1, full_range=False,
    frame_rate=Fraction(25), frames=250, time_base=Fraction(1, 12800),
)  # fmt: skip
SOUND = Sound(1, "aac", "LC", 48000, 2, "stereo", default=True, tags={})
FOUND = Inspected("mov,mp4,m4a,3gp,3g2,mj2", 10.0, Fraction(0), PICTURE, (SOUND,), (), (), {}, ())


def job(preset: str = "web", **changes: Any) -> dict[str, Any]:
    """Of a rendition."""
    fields = {"kind": "progressive", "mode": "auto", "height": None, "segment": 6.0}
    return {**fields, "preset": BUILT_IN[preset].model_dump(), **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"codec": "hevc"}, "hevc in mov does not play"),
        ({"pix_fmt": "yuv422p"}, "yuv422p"),
        ({"profile": "High 10"}, "High 10"),
        ({"level": 62}, "level 6.2"),
        ({"turn": "hflip"}, "upright"),
        ({"interlaced": True}, "interlaced"),
        ({"width": 1919}, "odd size"),
        ({"transfer": 18}, "HLG"),
    ],
)
def test_every_reason_to_encode(changes: dict[str, Any], why: str) -> None:
    """Any of them is enough, and is said."""
    made = plan(replace(FOUND, picture=replace(PICTURE, **changes)), job())
    assert made.action == "encode"
    assert why in made.reason


def test_no_reason_no_encoding() -> None:
    """Not even for clean-up: only a preset that says `always` wants it of what plays already."""
    made = plan(FOUND, job())
    assert (made.action, made.reason, made.frames) == ("remux", "already H.264 yuv420p and AAC", 250)
    assert plan(FOUND, job("clean")).action == "encode"
    assert plan(FOUND, job(mode="always")).action == "encode"
    assert plan(FOUND, job("small")).action == "encode"
    assert plan(replace(FOUND, sounds=()), job()).reason == "already H.264 yuv420p, without sound"


@pytest.mark.parametrize(
    ("width", "height", "changes", "limit", "size"),
    [
        (1920, 1080, {}, None, (1920, 1080)),
        (1920, 1080, {}, 480, (854, 480)),
        (640, 360, {}, 480, (640, 360)),
        (101, 75, {}, None, (100, 74)),
        (1, 1, {}, None, (2, 2)),
        (720, 576, {"aspect": Fraction(16, 11)}, None, (1048, 576)),
        (720, 480, {"aspect": Fraction(8, 9)}, None, (720, 540)),
        (1920, 1080, {"turn": "transpose=clock"}, None, (1080, 1920)),
        (1920, 1080, {"turn": "transpose=clock"}, 480, (270, 480)),
        (7680, 4320, {}, None, (4096, 2304)),
        (4, 8000, {}, None, (2, 4096)),
    ],
)
def test_sizes(width: int, height: int, changes: dict[str, Any], limit: int | None, size: tuple[int, int]) -> None:
    """Even, upright, square samples, and no larger than players take."""
    assert size_of(replace(PICTURE, width=width, height=height, **changes), limit)[:2] == size


@pytest.mark.parametrize(
    ("channels", "bit_rate", "layout", "rate_in", "rate"),
    [
        (1, 160_000, "mono", 48000, 48000),
        (2, 160_000, "stereo", 44100, 44100),
        (6, 160_000, "stereo", 96000, 48000),
        (6, 384_000, "5.1", 48000, 48000),
        (8, 512_000, "5.1", 192000, 48000),
    ],
)
def test_sounds(channels: int, bit_rate: int, layout: str, rate_in: int, rate: int) -> None:
    """Surround stays where each channel gets enough."""
    sound = replace(SOUND, codec="flac", channels=channels, rate=rate_in)
    wanted = job()
    wanted["preset"]["audio_bit_rate"] = bit_rate
    (made,) = plan(replace(FOUND, sounds=(sound,)), wanted).sounds
    assert (made.layout, made.rate, made.copied) == (layout, rate, False)


def test_a_rung_has_one_sound_and_its_own_height() -> None:
    """And says that the others are not in it."""
    made = plan(replace(FOUND, sounds=(SOUND, replace(SOUND, index=2))), job(kind="hls", height=480))
    assert (made.width, made.height, len(made.sounds), made.segment) == (854, 480, 1, 6.0)
    assert any("first of several" in warning for warning in made.warnings)


def test_filters_as_text() -> None:
    """Only what is needed: nothing at all where nothing is to be done but encode."""
    plain = plan(FOUND, job("plain", mode="always"))
    assert picture_filters(look_of(plain), plain) == "setsar=1"
    strong = plan(FOUND, job("clean"))
    text = picture_filters(look_of(strong), strong)
    assert text.index("deblock") < text.index("atadenoise") < text.index("unsharp")
    (sound,) = strong.sounds
    assert "loudnorm" in sound_filters(sound, 0, 1024)
    assert "loudnorm" not in sound_filters(replace(sound, loudness=False), 0, 1024)


# ---------------------------------------------------------------- the parts


def test_a_channel_holds_no_more_than_it_may() -> None:
    """Who is too fast waits; what is larger than the whole channel goes through all the same."""
    crew = Crew()
    channel = crew.channel(100)
    held: list[int] = []
    sent = threading.Event()

    def produce() -> None:
        for _ in range(20):
            channel.put("x", 60)
            held.append(1)
        channel.put("large", 1000)
        sent.set()

    crew.start(produce, channel)
    taken = 0
    for _ in channel:
        taken += 1
        assert len(held) <= taken + 2
    assert (taken, sent.is_set()) == (21, True)
    crew.stop()


def test_when_one_fails_all_stop() -> None:
    """Whether they wait for room or for work; the first failure is told."""
    crew = Crew()
    full, empty, ours = crew.channel(1), crew.channel(1), crew.channel(1)

    def fail() -> None:
        raise ValueError("this one")

    def fill() -> None:
        while True:
            full.put("x", 1)

    def wait() -> None:
        for _ in empty:
            pass

    crew.start(fill, full)
    crew.start(wait)
    crew.start(fail)
    with pytest.raises(StoppedError):
        for _ in ours:
            pass
    crew.stop()
    assert str(crew.failure) == "this one"


def test_damage_in_words() -> None:
    """Counted, and where it began."""
    damage = Damage(["its end is missing"])
    assert Damage().in_words() is None
    for at in (12.44, 13.0, 14.0):
        damage.lost("picture", at)
    damage.lost("sound", None)
    damage.marred(2.0)
    assert damage.in_words() == (
        "its end is missing; 3 packets of the picture did not decode, first at 12.4 s; "
        "1 packet of the sound did not decode; 1 picture is marred, at 2.0 s"
    )


def test_progress_is_told_twice_a_second_at_most() -> None:
    """And never beyond 100 percent, however long it goes on."""
    told: list[dict[str, Any]] = []
    progress = Progress(told.append, 10, 1.0)
    end = time.monotonic() + 1.2
    frames = 0
    while time.monotonic() < end:
        progress.picture(frames / 10)
        frames += 1
        time.sleep(0.001)
    assert 1 <= len(told) <= 2
    assert told[-1]["advanced"]["percent"] == 100


def test_a_playlist_names_the_bytes_of_each_segment() -> None:
    """And its peak is that of the busiest one."""
    boxes = [Box("ftyp", 0, 20), Box("moov", 20, 80), Box("moof", 100, 10), Box("mdat", 110, 90)]
    boxes += [Box("moof", 200, 10), Box("mdat", 210, 190)]
    header, segments = segments_of(boxes, [0.0, 6.0], 8.0)
    assert (header, segments) == (100, [Segment(100, 100, 6.0), Segment(200, 200, 2.0)])
    text = playlist(header, segments, "720.mp4")
    assert '#EXT-X-MAP:URI="720.mp4",BYTERANGE="100@0"' in text
    assert "#EXTINF:2.000000,\n#EXT-X-BYTERANGE:200@200\n720.mp4\n#EXT-X-ENDLIST\n" in text
    assert peak_bit_rate(segments) == 300
    with pytest.raises(SegmentsError, match="2 fragments where 3"):
        segments_of(boxes, [0.0, 3.0, 6.0], 8.0)
