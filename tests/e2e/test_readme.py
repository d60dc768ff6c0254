"""The README's commands, run as they stand there, and the output that it promises."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import PATIENCE, free_port, until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

SAME_EVERYWHERE = re.compile(r"Redis [0-9.]+ \([^)]*\)")
"""Which Redis it is depends on the machine."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder as short as somebody's home."""
    with tempfile.TemporaryDirectory(prefix="sh") as folder:
        yield Path(folder)


def _blocks() -> list[str]:
    return [block.strip() for block in re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)]


def test_the_first_command_shows_what_the_readme_promises(place: Path, sample_videos: list[Path]) -> None:
    """Given a folder, when the commands are followed from the first, then each answers as the README says."""
    up = next(block for block in _blocks() if block.startswith("scripts/up"))
    promised = next(block for block in _blocks() if block.startswith("log        embedded"))
    send = next(block for block in _blocks() if block.startswith("curl"))
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_"))},
        "SPOOLHOUSE_PORT": str(port),
    }
    output = place / "out"
    with output.open("w") as out:
        process = subprocess.Popen(
            [ROOT / up.split()[0], *up.split()[1:]], cwd=place, env=environment, stdout=out, stderr=out
        )
    try:
        until(
            lambda: "demo  " in output.read_text() or process.poll() is not None, seconds=5 * PATIENCE, why="the demo"
        )
        said = SAME_EVERYWHERE.sub("Redis", output.read_text()).splitlines()
        expected = promised.replace("/home/you/spoolhouse", str(place)).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        for line in SAME_EVERYWHERE.sub("Redis", expected).splitlines():
            assert line in said, output.read_text()

        shutil.copy(sample_videos[1], place / "clip.mp4")
        sent = subprocess.run(
            ["bash", "-c", send.replace(":8000", f":{port}")],
            cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        assert '"success":true' in sent.stdout.replace(" ", "")

        def runs(command: str) -> str:
            done = subprocess.run(
                [ROOT / ".venv/bin/spoolhouse" if (ROOT / ".venv/bin/spoolhouse").exists() else "spoolhouse", *command.split()],
                cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        until(
            lambda: "Tutorial_clip.mp4" in runs("list") and "spoolhouse-demo.mp4" in runs("list"),
            why="both in the list",
        )
        video = runs("list").splitlines()[1].split()[0]
        commands = re.findall(r"`\.venv/bin/spoolhouse ([^`]+)`", README)
        assert len(commands) >= 4
        for command in commands:
            assert runs(command.replace("ID", video)).strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(PATIENCE) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
