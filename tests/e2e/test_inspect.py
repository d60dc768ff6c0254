"""The commands of docs/inspect.md, run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import spoolhouse, until

DOC = Path(__file__).parents[2] / "docs" / "inspect.md"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket."""
    with tempfile.TemporaryDirectory(prefix="sh") as folder:
        yield Path(folder)


def test_the_commands_of_the_page_answer(short_path: Path, sample_videos: list[Path]) -> None:
    """Given a log with a video in it, when the page's commands are run in order, then each tells something true."""
    blocks = re.findall(r"```sh\n(.*?)```", DOC.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    assert len(lines) > 12
    script = "set -eu\n" + "\n".join(f"echo '>>> {number}'; {line}" for number, line in enumerate(lines))
    with spoolhouse(short_path / "data") as running:
        shutil.copy(sample_videos[1], short_path / "data" / "inbox" / "clip.mp4")
        video = until(lambda: running.videos(door="watch"), why="the video")[0]["id"]

        def history() -> list[str]:
            # The timeline may come a moment after the catalogue.
            told = running.get(f"/api/videos/{video}/events") or {"events": []}
            return [one["type"] for one in told["events"]]

        until(lambda: "VideoProbed" in history(), why="its probe")
        told = subprocess.run(
            ["bash", "-c", script], cwd=short_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert "ERR" not in told.stdout
        assert video in told.stdout
        for word in ("partitions", "epoch", "VideoProbed", "FileSettled", "projection.catalogue", "last-delivered-id"):
            assert word in told.stdout, word


def test_an_entry_put_in_by_hand_stops_nothing(short_path: Path, sample_videos: list[Path]) -> None:
    """Given an entry that nobody can read, when the next video comes, then it is taken in all the same, and this is said."""
    data = short_path / "data"
    with spoolhouse(data) as running:
        shutil.copy(sample_videos[1], data / "inbox" / "first.mp4")
        until(lambda: len(running.videos()) == 1, why="the first video")
        for partition in range(16):
            subprocess.run(
                [
                    "redis-cli",
                    "-s",
                    data / "redis" / "redis.sock",
                    "XADD",
                    f"spoolhouse:{{{partition:02d}}}:log",
                    "*",
                    "hello",
                    "world",
                ],
                check=True,
                capture_output=True,
                timeout=10,
            )
        for number in range(5):
            shutil.copy(sample_videos[1], data / "inbox" / f"later{number}.mp4")
        until(lambda: len(running.videos()) == 6, why="the later videos")
        parked = until(lambda: running.command("parked", "list").stdout, why="the parked entries")
        assert "probe" in parked
        assert running.get("/readyz")["ready"] is True
