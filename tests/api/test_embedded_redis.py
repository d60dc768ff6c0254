"""The private Redis of `spoolhouse up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api import embedded_redis
from api.embedded_redis import EmbeddedRedis, embedded_url, find_binary
from streams.connections import connect
from streams.errors import StartError
from tests.api.test_children import alive
from tests.servers import redis_binaries


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    """One that runs within the block."""
    redis = EmbeddedRedis(folder)
    await redis.start()
    try:
        yield redis
    finally:
        await redis.stop()


async def test_keeps_everything_over_a_restart(tmp_path: Path) -> None:
    """Durable by configuration, and its address is known to others while it runs."""
    folder = tmp_path / "redis"
    async with running(folder) as redis, connect(redis.url) as client:
        for name, value in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")):
            assert (await client.config_get(name)) == {name: value}
        await client.set("kept", "yes")
        assert embedded_url(folder) == redis.url
    assert embedded_url(folder) is None
    async with running(folder) as redis, connect(redis.url) as client:
        assert await client.get("kept") == b"yes"


@pytest.mark.parametrize("name", ["with space", 'quote " and \\', "Ünïcode 🎬"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    """Its configuration is a file with quoting rules of its own."""
    async with running(tmp_path / name) as redis, connect(redis.url) as client:
        assert await client.ping()
        assert redis.url.startswith("unix://")


async def test_long_path_gets_a_port_and_a_password(tmp_path: Path) -> None:
    """A unix socket's path has 107 bytes at most. Nobody else on this machine gets in."""
    folder = tmp_path / ("long" * 25)
    async with running(folder) as redis:
        assert redis.url.startswith("redis://:")
        async with connect(redis.url) as client:
            assert await client.ping()
        stranger = redis.url.replace(redis.url.split("@")[0], "redis://").replace("//@", "//")
        async with connect(stranger) as client:
            with pytest.raises(Exception, match=r"[Aa]uthentication required"):
                await client.ping()
        for private in ("redis.conf", "url"):
            assert (folder / private).stat().st_mode & 0o777 == 0o600


async def test_leftover_of_a_killed_start_is_ended(tmp_path: Path) -> None:
    """Two would write one file."""
    folder = tmp_path / "redis"
    async with running(folder) as first:
        pid = first.child.pid
        assert pid is not None
        second = EmbeddedRedis(folder)
        await second.start()
        try:
            assert not alive(pid)
            async with connect(second.url) as client:
                assert await client.ping()
        finally:
            await second.stop()


async def test_pid_file_of_a_stranger_is_left_alone(tmp_path: Path) -> None:
    """Process ids are handed out again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        (folder / "redis.pid").write_text(str(stranger.pid))
        async with running(folder):
            assert stranger.poll() is None
        stranger.kill()


async def test_broken_file_is_said(tmp_path: Path) -> None:
    """With the end of its log, and what to do."""
    folder = tmp_path / "redis"
    async with running(folder) as redis, connect(redis.url) as client:
        for number in range(50):
            await client.set(f"key {number}", "value")
    [aof] = list((folder / "appendonlydir").glob("*.incr.aof")) or [folder / "appendonly.aof"]
    content = bytearray(aof.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    aof.write_bytes(content)
    broken = EmbeddedRedis(folder)
    with pytest.raises(StartError, match="redis-check-aof"):
        await broken.start()
    await broken.stop()


async def test_redis_flushes_and_ends_when_orphaned(tmp_path: Path) -> None:
    """SIGKILL of the one who started it."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from api.embedded_redis import EmbeddedRedis\n"
        "async def main():\n"
        f"    redis = EmbeddedRedis(Path({str(tmp_path / 'redis')!r}))\n"
        "    await redis.start()\n"
        "    print(redis.child.pid, flush=True)\n"
        "    await redis.child.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
    async with running(tmp_path / "redis") as redis:
        assert not alive(pid)
        assert redis.child.pid != pid


def test_finds_path_first_then_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then whatever scripts/up fetched, else it says what to install."""
    in_path, bundled = redis_binaries()
    assert find_binary(tmp_path).path == in_path
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(tmp_path).path == bundled
    assert find_binary(tmp_path).version[:2] == (6, 2)
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda _: None)
    fetched = tmp_path / "share" / "redis" / "redis-server"
    fetched.parent.mkdir(parents=True)
    fetched.symlink_to(bundled)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert find_binary(tmp_path).path == str(fetched)
    fetched.unlink()
    with pytest.raises(StartError, match="apt-get install redis-server"):
        find_binary(tmp_path)


def test_older_redis_is_not_started_on_newer_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see nothing and begin an empty log."""
    (tmp_path / "appendonlydir").mkdir()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StartError, match="written by Redis 7"):
        find_binary(tmp_path)
