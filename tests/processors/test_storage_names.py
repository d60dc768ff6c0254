"""Names under which uploads are stored."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.storage.names import printable, safe_label, safe_name, stored_names, without_timestamp

AT = datetime(2024, 11, 12, 14, 30, 52)


@pytest.mark.parametrize(
    ("original", "safe"),
    [
        ("video.mp4", "video.mp4"),
        ("../../etc/passwd.mp4", "passwd.mp4"),
        ("..\\..\\windows\\clip.mp4", "clip.mp4"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("/etc/shadow", "shadow"),
        ("folder/", "folder"),
        ("cl\0ip.mp4", "clip.mp4"),
        ("clip.mp4\0.png", "clip.mp4.png"),
        ("line\nbreak\r\t.mp4", "linebreak.mp4"),
        (".hidden.mp4", "hidden.mp4"),
        (".mp4", "video.mp4"),
        ("", "video"),
        (".", "video"),
        ("..", "video"),
        ("......", "video"),
        (". . .", "video"),
        ("../..", "video"),
        ("   ", "video"),
        ("Übung 日本語 🎬.mp4", "Übung 日本語 🎬.mp4"),
        ("U\u0308bung.mp4", "Übung.mp4"),
        ("bad\udcff.mp4", "bad.mp4"),
        ("gp\u202e4pm.exe", "gp4pm.exe"),
        ("no extension", "no extension"),
        ("a.b.c.mp4", "a.b.c.mp4"),
    ],
)
def test_a_name_is_made_safe(original: str, safe: str) -> None:
    """Separators, controls, leading dots go; Unicode stays."""
    assert safe_name(original) == safe


def test_a_long_name_keeps_its_extension_and_no_character_is_cut() -> None:
    """300 bytes of umlauts become at most 255, still valid, still an mp4."""
    name = next(stored_names("ü" * 150 + ".mp4", "Tutorial", AT))
    assert len(name.encode()) <= 255
    assert name.startswith("20241112_143052_Tutorial_üü")
    assert name.endswith("ü.mp4")


def test_the_stored_name_of_the_contract() -> None:
    """Time, label, name; without a label, time and name."""
    assert next(stored_names("video.mp4", "Tutorial", AT)) == "20241112_143052_Tutorial_video.mp4"
    assert next(stored_names("lesson.mp4", "", AT)) == "20241112_143052_lesson.mp4"


def test_the_second_and_third_in_one_second_get_a_number_before_the_extension() -> None:
    """`_2`, `_3`."""
    assert list(islice(stored_names("a.tar.mp4", "", AT), 3)) == [
        "20241112_143052_a.tar.mp4",
        "20241112_143052_a.tar_2.mp4",
        "20241112_143052_a.tar_3.mp4",
    ]


def test_filename_is_the_stored_name_without_its_timestamp() -> None:
    """What was never stamped stays as it is."""
    assert without_timestamp("20241112_143052_Tutorial_video_2.mp4") == "Tutorial_video_2.mp4"
    assert without_timestamp("holiday.mp4") == "holiday.mp4"
    assert without_timestamp("20241112_143052_") == "20241112_143052_"


def test_a_label_is_part_of_a_name_and_never_a_path() -> None:
    """Separators become underscores."""
    assert safe_label("../a/b") == "_a_b"
    assert safe_label(" Tutorial ") == "Tutorial"
    assert safe_label("\0\n") == ""
    assert len(safe_label("é" * 100).encode()) <= 64


@given(st.text(max_size=400), st.text(max_size=200))
def test_whatever_a_sender_writes_the_name_is_one_safe_component(original: str, label: str) -> None:
    """Holds for every text, with the longest suffix too."""
    for name in [*islice(stored_names(original, label, AT), 2), safe_name(original)]:
        assert 0 < len(name.encode()) <= 255
        assert "/" not in name
        assert "\\" not in name
        assert not name.startswith(".")
        assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in name)
    last = list(stored_names("x" * 300 + ".mp4", label, AT))[-1]
    assert len(last.encode()) <= 255


@given(st.text(max_size=400))
def test_printable_text_fits_json_and_tables(text: str) -> None:
    """At most 255 characters, encodable."""
    assert len(printable(text)) <= 255
    printable(text).encode()
