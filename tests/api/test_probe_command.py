"""`spoolhouse probe`: says what files are, for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import orjson
from click.testing import CliRunner, Result

from api.cli import main


def probe(*arguments: str) -> Result:
    """Run it."""
    result: Result = CliRunner().invoke(main, ["probe", *arguments])
    return result


def test_a_video_is_described(clean_env: Path, make_video: Callable[..., Path]) -> None:
    """By name, relative to here; nothing of Spoolhouse need run, and nothing is made."""
    make_video(clean_env / "a.mkv", sound=True)
    result = probe("a.mkv")
    assert result.exit_code == 0, result.output
    assert "Matroska / WebM" in result.stdout
    assert "video: h264" in result.stdout
    assert "160×120" in result.stdout
    assert "audio: aac" in result.stdout
    assert os.listdir(clean_env) == ["a.mkv"]


def test_for_programs(clean_env: Path, make_video: Callable[..., Path]) -> None:
    """One object for one file, a list for several."""
    make_video(clean_env / "a.mp4")
    clean_env.joinpath("text.mp4").write_text("no video at all")
    one = orjson.loads(probe("--json", "a.mp4").stdout)
    assert (one["path"], one["damaged"], one["streams"][0]["width_px"]) == ("a.mp4", None, 160)
    result = probe("--json", "a.mp4", "text.mp4")
    assert result.exit_code == 1
    several = orjson.loads(result.stdout)
    assert several[0] == one
    assert several[1] == {"path": "text.mp4", "kind": "no_video", "reason": "it is text"}


def test_what_is_no_video_is_said_why(clean_env: Path, make_video: Callable[..., Path]) -> None:
    """Exit status 1, and the others are described all the same. Names cannot play with the terminal."""
    make_video(clean_env / "good.mp4")
    name = "picture \x1b[2J\udcff.mp4"
    clean_env.joinpath(name).write_bytes(b"\x89PNG\r\n\x1a\n")
    result = probe(name, "nowhere.mp4", "good.mp4")
    assert result.exit_code == 1
    assert "no video: it is a PNG image" in result.stdout
    assert "no longer there" in result.stdout
    assert "video: h264" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_damaged_video_is_described_as_far_as_it_goes(clean_env: Path, make_video: Callable[..., Path]) -> None:
    """It is one all the same."""
    whole = make_video(clean_env / "a.mkv").read_bytes()
    clean_env.joinpath("cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    result = probe("cut.mkv")
    assert result.exit_code == 0
    assert "damaged" in result.stdout
    assert "bytes are missing at its end" in result.stdout
