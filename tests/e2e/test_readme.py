"""The README's commands, run as they stand there, and the output that it promises."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.drive_server import DriveServer
from tests.e2e.running import PATIENCE, free_port, until
from tests.sites import Page, serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

SAME_EVERYWHERE = re.compile(r"Redis [0-9.]+ \([^)]*\)")
"""Which Redis it is depends on the machine."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder as short as somebody's home."""
    with tempfile.TemporaryDirectory(prefix="sh") as folder:
        yield Path(folder)


def _blocks(text: str = README) -> list[str]:
    return [block.strip() for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def _section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _commands(section: str) -> list[str]:
    return re.findall(r"`\.venv/bin/spoolhouse ([^`]+)`", _section(section))


def _runs(place: Path, environment: dict[str, str], command: str) -> str:
    """What a `spoolhouse` command answers there; it succeeds."""
    installed = ROOT / ".venv/bin/spoolhouse"
    done = subprocess.run(
        [installed if installed.exists() else "spoolhouse", *command.split()],
        cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment(port: int) -> dict[str, str]:
    """Nothing of Spoolhouse is set but the port."""
    others = ("SPOOLHOUSE_", "MYSQL_", "AWS_", "DRIVE_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(others)},
        "SPOOLHOUSE_PORT": str(port),
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does it; it ends well."""
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(PATIENCE) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_the_first_command_shows_what_the_readme_promises(
    place: Path, sample_videos: list[Path], make_video: Callable[..., Path]
) -> None:
    """Given a folder, when the commands are followed from the first, then each answers as the README says."""
    up = next(block for block in _blocks() if block.startswith("scripts/up"))
    promised = next(block for block in _blocks() if block.startswith("log        embedded"))
    send = next(block for block in _blocks() if block.startswith("curl"))
    port = free_port()
    environment = _environment(port)
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
            return _runs(place, environment, command)

        until(
            lambda: "Tutorial_clip.mp4" in runs("list") and "spoolhouse-demo.mp4" in runs("list"),
            why="both in the list",
        )
        video = runs("list").splitlines()[1].split()[0]
        commands = _commands("Give it a video")
        assert len(commands) >= 4
        for command in commands:
            assert runs(command.replace("ID", video)).strip()

        # Play it anywhere
        [send, promised, *_] = _blocks(_section("Play it anywhere"))
        make_video(place / "holiday.avi", sound=True)
        sent = subprocess.run(
            ["bash", "-c", send.replace(":8000", f":{port}")],
            cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        answer = json.loads(sent.stdout)
        assert json.loads(promised) == {**answer, "file_id": "2f0c8a52-…"}
        played = f"http://127.0.0.1:{port}/processed_videos/{answer['file_id']}"

        def plays() -> bool:
            with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(played, timeout=PATIENCE) as film:
                return bool(film.headers["Content-Type"] == "video/mp4" and b"moov" in film.read())
            return False

        until(plays, why="the rendition")
        for command in _commands("Play it anywhere"):
            said = runs(command.replace("ID", video).replace("FILE", "holiday.avi"))
            assert "mpeg4" in said if command.startswith("probe") else said is not None
    finally:
        _stop(process)


def test_copies_on_another_disk_are_made_checked_and_brought_back(
    place: Path, other_disk: Path, drive_server: DriveServer, sample_videos: list[Path]
) -> None:
    """Given the folder on another disk that the README's example names, then each command of that section answers."""
    [example] = _blocks(_section("Copies elsewhere"))
    says_where, up = example.replace("/mnt/other-disk", str(other_disk)).splitlines()
    port = free_port()
    environment = {**_environment(port), **drive_server.environment}
    subprocess.run(["bash", "-c", says_where], cwd=place, env=environment, timeout=PATIENCE, check=True)
    output = place / "out"
    with output.open("w") as out:
        process = subprocess.Popen([ROOT / up], cwd=place, env=environment, stdout=out, stderr=out)
    try:
        until(
            lambda: "\nready at" in output.read_text() or process.poll() is not None, seconds=PATIENCE, why="its start"
        )
        assert f"file://{other_disk}/videos" in output.read_text()
        shutil.copy(sample_videos[1], place / "data/inbox/film.mp4")

        def runs(command: str) -> str:
            return _runs(place, environment, command)

        def copied() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/videos", timeout=PATIENCE) as answer:
                shown = json.load(answer)["videos"]
            whole = [one["id"] for one in shown for copy in one["replicas"] if copy["state"] == "complete"]
            return str(whole[0]) if len(whole) == 2 else ""

        video = until(copied, why="both copies")
        commands = _commands("Copies elsewhere")
        with ThreadPoolExecutor(3) as people:
            done = people.map(runs, [command.replace("ID", video) for command in commands])
            answers = dict(zip(commands, done, strict=True))

        assert (place / "copy.mp4").read_bytes() == sample_videos[1].read_bytes()
        for command, expected in {
            "list --not-copied": "No videos.",
            "verify --all": "1 video verified: 1 well",
            "restore ID -o copy.mp4": f"restored from file://{other_disk}/videos",
            "restore --bucket videos --list": "film.mp4",
            "drive check": "files may be put into the folder",
            "retention --days 30 --dry-run": "No video came in more than 30 days ago.",
        }.items():
            assert expected in answers.pop(command)
        assert not answers, "the README has a command that is not looked at here"
    finally:
        _stop(process)


def test_a_url_is_fetched_as_the_readme_shows(place: Path) -> None:
    """Given a site, when the curl line is sent there, then the files lie as they are drawn; each command answers."""
    title = "Fetch it from a URL"
    [send, drawn] = _blocks(_section(title))
    with serving() as site:
        site.pages["/watch/7GFmAdRW_98"] = Page()
        port = free_port()
        environment = {**_environment(port), "SPOOLHOUSE_DOWNLOAD_ALLOW": site.base.removeprefix("http://")}
        output = place / "out"
        with output.open("w") as out:
            process = subprocess.Popen([ROOT / "scripts/up"], cwd=place, env=environment, stdout=out, stderr=out)
        try:
            until(lambda: "\nready at" in output.read_text(), seconds=PATIENCE, why="its start")
            here = send.replace(":8000", f":{port}").replace("https://example.org", site.base)
            sent = subprocess.run(
                ["bash", "-c", here], cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=True
            )
            assert json.loads(sent.stdout)["status"] == "Pending"

            first, *others = drawn.splitlines()
            media, folder, name = first.rsplit("/", 2)
            names = {name, *(other.strip() for other in others)}

            def found() -> set[str]:
                # Of a site that nobody knows the id is longer.
                there = (place / media / folder).glob("*")
                return {re.sub(r"\[7GFmAdRW_98-[0-9a-f]{8}\]", "[7GFmAdRW_98]", one.name) for one in there}

            until(lambda: found() == names, why="the files that are drawn")

            def runs(command: str) -> str:
                return _runs(place, environment, command)

            assert "A train goes by" in runs("downloads")
            commands = _commands(title)
            asked = [one.replace("URL", site.url("/feed")).replace("ID", "1") for one in commands]
            with ThreadPoolExecutor(3) as people:
                answers = dict(zip(commands, people.map(runs, asked), strict=True))
            assert set(answers) == {
                "get URL --wait",
                "downloads",
                "downloads refresh ID",
                "downloads delete ID",
                "downloads config max_height=1080",
                "subscriptions add URL",
            }
            assert "1080" in answers["downloads config max_height=1080"]
        finally:
            _stop(process)
