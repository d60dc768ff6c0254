"""Verify and restore as a person runs them, with everything and with less and less, killed at every step."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
import pytest

from processors.copies import chunk_key
from streams.identity import stream_id
from streams.log import open_log
from streams.settings import Settings
from tests.e2e.running import PATIENCE, Running, spoolhouse, until
from tests.processors.retaining import world
from tests.swift import SwiftServer

DOC = Path(__file__).parents[2] / "docs" / "recovery.md"


def command(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A `spoolhouse` command in a folder, with nothing set but what is named."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_", "AWS_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *words],
        cwd=folder, env={**clean, **environment}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def script(folder: Path, environment: Mapping[str, str], mark: str, bucket: str) -> str:
    """Run the page's blocks that begin with these words, as they stand there but for the bucket's name."""
    blocks = re.findall(rf"^```{mark}\n(.*?)^```", DOC.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    text = "\n".join(blocks).replace("--bucket videos", f"--bucket {bucket}")
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_", "AWS_"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{text}"],
        cwd=folder, env={**clean, **environment, "PATH": path}, capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def events(running: Running, video: str) -> list[str]:
    told = running.get(f"/api/videos/{video}/events") or {}
    return [event["type"] for event in told.get("events", [])]


def test_everything_comes_back_with_less_and_less(
    tmp_path: Path, s3_env: dict[str, str], s3_server: SwiftServer, bucket: str, sample_videos: list[Path]
) -> None:
    """A file, a chunk, then the whole machine are lost; the page's commands bring all of it back."""
    data = tmp_path / "data"
    settings = {**s3_env, "SPOOLHOUSE_CHUNK_SIZE": "65536"}
    film, clip = (path.read_bytes() for path in sample_videos)
    with spoolhouse(data, **settings) as running:
        _, body = running.upload("film.mp4", film)
        video, path = body["id"], Path(body["local_backup"])
        shutil.copy(sample_videos[1], data / "inbox" / "clip.mp4")
        watched = until(lambda: running.videos(door="watch"), why="the watched video")[0]["id"]
        for one in (video, watched):
            until(lambda v=one: "ReplicationCompleted" in events(running, v), why="the copies")

        path.unlink()
        shown = script(
            tmp_path, {**settings, "SPOOLHOUSE_DATA": str(data), "VIDEO": video[:8]}, "sh with-the-log", bucket
        )
        assert "2 videos verified: 2 well" in shown
        assert path.read_bytes() == (tmp_path / "elsewhere.mp4").read_bytes() == film

        key = chunk_key(stream_id(video, 1), 3)
        s3_server.delete(bucket, key)
        found = running.command("verify", video[:8])
        assert found.returncode == 1
        assert f"{key}: expected 65536 bytes, found nothing" in found.stdout
        repaired = running.command("verify", "--all", "--repair", "--json")
        assert repaired.returncode == 0, repaired.stdout
        told = {one["video"]: one for one in map(orjson.loads, repaired.stdout.splitlines())}
        assert told[video]["repairs"] == ["the object store: 1 objects sent again from the local file"]
        assert told[watched]["repairs"] == []

        stopped = {**settings, "SPOOLHOUSE_DATA": str(data)}
    without = command(tmp_path, stopped, "restore", video, "-o", "film.mp4")
    assert without.returncode == 1
    assert f"spoolhouse restore --bucket {bucket} --list" in without.stderr

    shutil.rmtree(data)
    elsewhere = tmp_path / "another machine"
    elsewhere.mkdir()
    only = {name: value for name, value in s3_env.items() if name != "SPOOLHOUSE_S3_BUCKET"}
    shown = script(elsewhere, only, "sh", bucket)
    assert shown.startswith("stream ")
    names = {one.name for one in (elsewhere / "recovered").iterdir()}
    assert names == {path.name, "clip.mp4"}
    assert (elsewhere / "film.mp4").read_bytes() in {film, clip}
    assert (elsewhere / "recovered" / path.name).read_bytes() == film
    assert (elsewhere / "recovered" / "clip.mp4").read_bytes() == clip
    by_hand = elsewhere / "by hand"
    (by_hand / "stream").mkdir(parents=True)
    for key in s3_server.objects(bucket, f"{stream_id(video, 1)}/"):
        (by_hand / "stream" / key.rpartition("/")[2]).write_bytes(s3_server.read(bucket, key))
    assert hashlib.sha256(film).hexdigest() in script(by_hand, {}, "sh by-hand", bucket)
    assert (by_hand / "by-hand.mp4").read_bytes() == film
    assert not list(elsewhere.rglob("*.spoolhouse-part"))


@pytest.fixture
def settings(s3_env: dict[str, str], make_settings: Callable[..., Settings]) -> Settings:
    """Small chunks, and the S3 server."""
    return make_settings(partitions=2, chunk_size=65536)


async def test_a_restore_that_is_killed_goes_on(
    settings: Settings, s3_env: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """Kill -9 after some chunks, before the file has its name, before the log knows, before the sidecar does."""
    content = os.urandom(10 * 65536 + 5)
    environment = {
        **s3_env,
        "SPOOLHOUSE_REDIS_URL": redis_url,
        "SPOOLHOUSE_DATA": str(settings.data),
        "SPOOLHOUSE_PARTITIONS": "2",
    }
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        video = await here.upload(content=content)
        path = settings.uploads / "lesson.mp4"
        part = settings.uploads / ".lesson.mp4.spoolhouse-part"
        for number, point in enumerate(("part_written:6", "verified", "placed", "logged")):
            assert [one.verdict for one in await here.look(days=0)] == ["deleted"]
            died = command(tmp_path, {**environment, "SPOOLHOUSE_CRASH_AT": f"restore.{point}"}, "restore", video)
            assert died.returncode == -9, died.stderr
            if number == 0:
                assert (path.exists(), part.stat().st_size) == (False, 6 * 65536)
            went_on = command(tmp_path, environment, "restore", video)
            assert went_on.returncode == 0, went_on.stderr
            assert ("384.00 KB of it fetched before" in went_on.stdout) == (number == 0)
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
            facts = await here.facts(video)
            assert (facts.state, facts.offloads) == ("present", number + 1)
            assert (await here.types(video)).count("VideoRestored") == number + 1
            assert [one.name for one in settings.uploads.iterdir() if one.is_file()] == ["lesson.mp4"]
            assert here.sidecars.offloads.videos() == []
            assert await here.reconciler.survey() == 0


def test_credentials_may_stand_in_the_env_file(tmp_path: Path, s3_env: dict[str, str], bucket: str) -> None:
    """All that the bucket needs is in `.env`, comments and all; what is set in the environment wins."""
    (tmp_path / ".env").write_text("".join(f"{name}={value}  # of the bucket\n" for name, value in s3_env.items()))
    there = command(tmp_path, {}, "restore", "--bucket", bucket, "--list")
    assert "There is no complete stream" in there.stderr, there.stderr
    refused = command(tmp_path, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "restore", "--bucket", bucket, "--list")
    assert "does not accept the credentials" in refused.stderr, refused.stderr
