"""The worker is killed at every step there is, one after another; the next one always makes good."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.running import PATIENCE, Running, compared, free_port, until
from tests.e2e.test_chaos import the_log_is_dense
from tests.servers import RedisServer

REPOSITORY = Path(__file__).parents[2]

DOWNLOADING = ("download.", "downloads.", "dispatch.", "subscription.")

UPLOADING = (
    "storage.",
    "upload.",
    "retry.",
    "retention.",
    "replicate.",
    "drive.",
    "restore.",
    "growing.",
    *DOWNLOADING,
)
"""Steps of the API's, of failing work, of copying and of downloading; tests/processors/test_uploads.py,
tests/faults/test_crash_points.py, tests/faults/test_replicate_kills.py, tests/processors/test_drive.py,
tests/e2e/test_restore.py, tests/e2e/test_growing.py and tests/faults/test_download_kills.py kill at each of them.
"""


def named_in(folder: str) -> set[str]:
    """Every crash point below a folder."""
    found = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant), f"{path}: a crash point has a literal name"
                found.add(str(argument.value))
    return found


NAMES = sorted(
    name
    for folder in ("streams", "processors", "projections", "api")
    for name in named_in(folder)
    if not name.startswith(UPLOADING)
)
MEDIA = ("enhance.", "previews.", "probe.")
ON_MEDIA = [name for name in NAMES if name.startswith(MEDIA)]
AT_WORK = [name for name in NAMES if not name.startswith(("gate.", "rebuild.", *MEDIA))]
AFTER_A_LOSS = [name for name in NAMES if name.startswith(("gate.", "rebuild."))]


@contextlib.contextmanager
def _process(kind: str, environment: Mapping[str, str], output: Path) -> Iterator[subprocess.Popen[str]]:
    with output.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", kind],
            env=environment,
            cwd=output.parent,
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class World:
    """A Redis, an API, and videos that come in by both doors."""

    def __init__(self, tmp_path: Path, redis: RedisServer, clip: Path, *, media: bool) -> None:
        self.redis, self.clip, self.media = redis, clip, media
        self.data, self.output, port = tmp_path / "data", tmp_path / "out", free_port()
        (self.data / "inbox").mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_"))},
            "SPOOLHOUSE_DATA": str(self.data),
            "SPOOLHOUSE_PORT": str(port),
            "SPOOLHOUSE_REDIS_URL": redis.url,
            "SPOOLHOUSE_WORKER": "the-only-one",
            "SPOOLHOUSE_LEASE_TTL": "2",
            "SPOOLHOUSE_ENHANCE_DOORS": "watch,upload" if media else "",
            "SPOOLHOUSE_PREVIEWS": str(media),
        }
        self.api = Running(None, self.data, port, self.output, self.environment)  # type: ignore[arg-type]
        self.expected = 0

    def bring(self) -> None:
        """Two more videos."""
        self.expected += 1
        shutil.copy(self.clip, self.data / "inbox" / f"dropped{self.expected}.mp4")
        assert self.api.upload(f"sent{self.expected}.mp4", self.clip.read_bytes())[0] == 200

    def complete(self) -> bool:
        """Everything is listed, numbered, probed, and in the log files; with `media` playable, with a poster."""
        videos = self.api.videos()
        lines = ""
        for path in (self.data / "logs").glob("*.log"):
            lines += path.read_text()
        return (
            len(videos) == 2 * self.expected
            and all(video["duration"] for video in videos)
            and (not self.media or all(video["playable"] and video["poster"] for video in videos))
            and len(self.rows()) == self.expected
            and lines.count("Video saved locally") == self.expected
        )

    def rows(self) -> list[tuple[object, ...]]:
        """The legacy table."""
        db = sqlite3.connect(f"file:{self.data}/catalogue.sqlite3?mode=ro", uri=True, timeout=10)
        try:
            found: list[tuple[object, ...]] = db.execute("SELECT * FROM videos ORDER BY id").fetchall()
            return found
        finally:
            db.close()

    def worker_dies(self, at: str) -> None:
        """A worker runs until it gets to a crash point."""
        with _process("worker", {**self.environment, "SPOOLHOUSE_CRASH_AT": at}, self.output) as worker:
            until(lambda: worker.poll() is not None, why=f"the death at {at}")
            assert worker.returncode == -signal.SIGKILL, self.output.read_text()[-4000:]

    def worker_makes_good(self, why: str) -> None:
        """A worker runs until everything is done."""
        with _process("worker", self.environment, self.output) as worker:
            until(self.complete, why=why)
            assert worker.poll() is None


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, own_redis: RedisServer, sample_videos: list[Path]
) -> Iterator[World]:
    """All of it, the API running; parametrised with True, renditions and pictures are made, too."""
    made = World(tmp_path, own_redis, sample_videos[1], media=getattr(request, "param", False))
    with _process("api", made.environment, made.output):
        until(lambda: made.api.get("/healthz"), why="the API")
        try:
            yield made
        except BaseException:
            print(made.output.read_text()[-6000:])
            raise


@pytest.mark.timeout(600)
def test_a_worker_killed_at_any_step_is_made_good(world: World) -> None:
    """Given new videos, when the worker dies at a step, then the next one does what is left, once."""
    assert len(AT_WORK) > 8
    for name in AT_WORK:
        world.bring()
        world.worker_dies(name)
        world.worker_makes_good(f"the work after a death at {name}")
    the_log_is_dense(world.redis.url)
    assert [row[0] for row in world.rows()] == list(range(1, world.expected + 1))
    with _process("worker", world.environment, world.output):
        until(lambda: (world.api.get("/readyz") or {}).get("ready"), why="readiness")
        rebuilt = world.api.command("rebuild", "--compare")
        assert rebuilt.stdout.count("equal, row for row") == compared(), rebuilt.stdout + rebuilt.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", [True], indirect=True, ids=["media"])
def test_a_worker_killed_at_any_step_of_media_is_made_good(world: World) -> None:
    """Given new videos, when the worker dies at a step of making things of them, then each thing is made once."""
    assert len(ON_MEDIA) > 6
    for name in ON_MEDIA:
        world.bring()
        world.worker_dies(name)
        world.worker_makes_good(f"the work after a death at {name}")
    videos = [video["id"] for video in world.api.videos()]
    for video in videos:
        told = world.api.get(f"/api/videos/{video}/events") or {"events": []}
        types = [one["type"] for one in told["events"]]
        for made in ("RenditionStored", "EnhancementCompleted", "PreviewsMade", "VideoProbed"):
            assert types.count(made) == 1, (video, types)
    assert len(list((world.data / "processed_videos").glob("*.mp4"))) == len(videos)
    until(lambda: not list((world.data / "processed_videos" / ".incoming").iterdir()), why="a tidy folder")


@pytest.mark.timeout(600)
def test_a_gate_killed_at_any_step_is_made_good(world: World) -> None:
    """Given a log that lost everything, when the worker dies while it puts that right, then the next one finishes."""
    assert len(AFTER_A_LOSS) > 4
    for _ in range(3):
        world.bring()
    world.worker_makes_good("the first videos")
    rows = world.rows()
    for name in AFTER_A_LOSS:
        world.redis.stop()
        shutil.rmtree(world.redis.aof_files[0].parent)
        world.redis.start()
        world.worker_dies(name)
        with _process("worker", world.environment, world.output):
            until(lambda: (world.api.get("/readyz") or {}).get("ready"), why=f"readiness after a death at {name}")
            until(world.complete, why=f"everything after a death at {name}")
        assert world.rows() == rows, name
