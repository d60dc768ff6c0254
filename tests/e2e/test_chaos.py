"""Redis, MariaDB and our own processes are killed at random under load; in the end nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.running import Running, spoolhouse, until
from tests.servers import MariaDBServer, RedisServer

SECONDS = float(os.environ.get("SPOOLHOUSE_CHAOS_SECONDS", "20"))
"""How long the killing goes on; `scripts/soak` asks for more."""

PARTITIONS = 16


class Load(threading.Thread):
    """Drops files and sends uploads until told to stop; remembers what was acknowledged."""

    def __init__(self, running: Running, clip: Path, seed: int) -> None:
        super().__init__()
        self.running, self.clip, self.rng = running, clip, random.Random(seed)
        self.content = clip.read_bytes()
        self.dropped: list[str] = []
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self.enough = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            if self.rng.random() < 0.5:
                name = f"dropped{number}.mp4"
                shutil.copy(self.clip, self.running.data / "inbox" / name)
                self.dropped.append(name)
            else:
                # Each its own content, so that none is another's duplicate.
                status, answer = self.running.upload(f"sent{number}.mp4", self.content + f"{number}".encode())
                if status == 200:
                    self.acknowledged.append(answer["id"])
                else:
                    self.unanswered += 1
            time.sleep(self.rng.uniform(0, 0.1))


def _log(url: str) -> list[list[tuple[int, dict[bytes, bytes]]]]:
    with redis.Redis.from_url(url) as client:
        return [
            [(int(i.split(b"-")[0]), f) for i, f in client.xrange(f"spoolhouse:{{{p:02d}}}:log")]
            for p in range(PARTITIONS)
        ]


def _rows(url: str, query: str) -> list[Any]:
    async def ask() -> list[Any]:
        engine = create_async_engine(url)
        try:
            async with engine.connect() as conn:
                return list(await conn.execute(text(query)))
        finally:
            await engine.dispose()

    return asyncio.run(ask())


def test_nothing_is_lost_or_doubled_while_servers_die(
    tmp_path: Path,
    own_redis: RedisServer,
    own_mariadb: MariaDBServer,
    other_disk: Path,
    sample_videos: list[Path],
    rng: random.Random,
) -> None:
    """Given load at both doors, when Redis, MariaDB, worker and API are killed, then log, tables and copies are whole."""
    database = own_mariadb.new_database("chaos")
    settings = {
        "SPOOLHOUSE_REDIS_URL": own_redis.url,
        "SPOOLHOUSE_CATALOGUE_URL": database,
        "SPOOLHOUSE_S3_ENDPOINT": f"file://{other_disk}",
        "SPOOLHOUSE_LEASE_TTL": "3",
        "SPOOLHOUSE_WATCH_RESCAN_INTERVAL": "5",
    }
    with spoolhouse(tmp_path / "data", **settings) as running:
        load = Load(running, sample_videos[1], rng.randrange(2**32))
        load.start()
        killed: Counter[str] = Counter()
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.3, 2.0))
                victim = rng.choice(["redis", "redis", "mariadb", "worker", "api"])
                killed[victim] += 1
                if victim == "redis":
                    own_redis.restart(kill=True)
                elif victim == "mariadb":
                    own_mariadb.restart(kill=True)
                elif pid := running.child(victim):
                    os.kill(pid, signal.SIGKILL)
        finally:
            load.enough.set()
            load.join(120)
        print(f"killed {dict(killed)}, dropped {len(load.dropped)}, acknowledged {len(load.acknowledged)}")

        until(lambda: running.get("/readyz"), seconds=120, why="readiness after the storm")

        def missing() -> set[str]:
            rows = _rows(database, "SELECT id, relative FROM catalogue")
            return ({*load.dropped} | {*load.acknowledged}) - {one.id for one in rows} - {one.relative for one in rows}

        until(lambda: not missing(), seconds=120, why=f"everything in the catalogue (missing {missing()})")
        rows = _rows(database, "SELECT door, relative, number FROM catalogue")
        watched = [one for one in rows if one.door == "watch"]
        assert len(watched) == len(load.dropped)
        legacy = until(
            lambda: (
                (found := _rows(database, "SELECT id, des_video_path FROM videos ORDER BY id"))
                and len(found) == len(watched)
                and found
            ),
            why="a row in videos for each watched file",
        )
        assert len({one.des_video_path for one in legacy}) == len(legacy)
        assert {(one.number, one.relative) for one in watched} == {
            (one.id, os.path.basename(one.des_video_path)) for one in legacy
        }
        # An upload whose answer never came may still be there, whole; one that was acknowledged is there once.
        uploads = len(rows) - len(watched)
        assert len(load.acknowledged) <= uploads <= len(load.acknowledged) + load.unanswered

        uncopied = (
            "SELECT id FROM catalogue WHERE id NOT IN "
            "(SELECT video FROM replicas WHERE replica = 's3' AND state = 'complete')"
        )
        until(lambda: not _rows(database, uncopied), seconds=120, why="a copy of each")
        assert _whole_copies(other_disk / "videos") == {one.id for one in _rows(database, "SELECT id FROM catalogue")}

        the_log_is_dense(own_redis.url)
        assert "the log lost its tail" not in running.output.read_text()
        for name in ("catalogue", "legacy_rows", "storage_stats", "timeline", "replicas"):
            before = _settled(database, name, own_redis.url)
            _rebuild(running, {"legacy_rows": "legacy_videos"}.get(name, name))
            assert _rows(database, f"SELECT * FROM {name} ORDER BY 1, 2") == before, name


def _whole_copies(bucket: Path) -> set[str]:
    """The videos whose copies are what their manifests say; each of them is."""
    videos = set()
    for manifest in bucket.glob("*/metadata.json"):
        told = json.loads(manifest.read_bytes())
        chunks = sorted(manifest.parent.glob("chunk_*.bin"))
        assert [f"{manifest.parent.name}/{chunk.name}" for chunk in chunks] == [one["key"] for one in told["chunks"]]
        assert hashlib.sha256(b"".join(chunk.read_bytes() for chunk in chunks)).hexdigest() == told["sha256"]
        videos.add(told["video"])
    return videos


def the_log_is_dense(url: str) -> None:
    """Positions and versions without gaps, no id twice."""
    versions: dict[bytes, list[int]] = {}
    ids: Counter[bytes] = Counter()
    for partition in _log(url):
        assert [pos for pos, _ in partition] == list(range(1, len(partition) + 1))
        for _, fields in partition:
            versions.setdefault(fields[b"subject"], []).append(int(fields[b"ver"]))
            ids[fields[b"id"]] += 1
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    assert set(ids.values()) == {1}


def _settled(database: str, name: str, url: str) -> list[Any]:
    """A table's rows once its projection has applied the whole log."""
    projection = {"legacy_rows": "legacy_videos"}.get(name, name)

    def caught_up() -> bool:
        heads = [partition[-1][0] if partition else 0 for partition in _log(url)]
        query = f"SELECT pos FROM {projection}_checkpoint ORDER BY `partition`"
        return [one.pos for one in _rows(database, query)] == heads

    until(caught_up, why=f"{projection} at the end of the log")
    return _rows(database, f"SELECT * FROM {name} ORDER BY 1, 2")


def _rebuild(running: Running, projection: str) -> None:
    done = running.command("rebuild", projection)
    assert done.returncode == 0, done.stdout + done.stderr
