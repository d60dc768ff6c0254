"""Redis or the catalogue down: uploads are taken, everything else says so, and all of it comes back."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.settings import Settings
from tests.api.running import Api, running_api, until
from tests.api.test_refusals import form_bytes, request_bytes
from tests.servers import MariaDBServer, RedisServer, free_port


async def problems(api: Api) -> set[str]:
    """What `/readyz` names."""
    answer = await api.get("/readyz")
    assert answer.status == (200 if answer.body["ready"] else 503)
    return {problem["what"] for problem in answer.body["problems"]}


async def test_redis_down_and_back(own_api: Api, own_redis: RedisServer, clip: Path) -> None:
    """200 for uploads all the same; they appear once Redis is back, each once."""
    api = own_api
    await api.upload(clip, "before.mp4")
    await api.settled()
    own_redis.kill()
    began = time.monotonic()
    answers = [await api.upload(clip, f"down{number}.mp4") for number in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert time.monotonic() - began < 15
    assert all(Path(answer.body["local_backup"]).read_bytes() == clip.read_bytes() for answer in answers)
    assert "redis" in await problems(api)
    assert (await api.get("/healthz")).status == 200
    # What the catalogue knows can still be asked.
    assert (await api.get("/api/videos/list")).body["count"] == 1
    own_redis.start()

    async def all_there() -> bool:
        return bool((await api.get("/api/videos/list")).body["count"] == 5)

    await until(all_there)
    await api.settled()
    assert (await api.get("/api/videos/list")).body["count"] == 5

    async def well_again() -> bool:
        return "redis" not in await problems(api)

    await until(well_again)


async def test_opens_with_redis_down(make_settings: Callable[..., Settings], clip: Path) -> None:
    """The API starts, takes uploads and says what is missing."""
    settings = make_settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    async with running_api(settings, projections=False) as api:
        assert (await api.upload(clip)).status == 200
        assert {"redis", "catalogue"} <= await problems(api)


async def test_catalogue_down_and_back(
    make_settings: Callable[..., Settings], redis_url: str, own_mariadb: MariaDBServer, clip: Path
) -> None:
    """Uploads are taken; lists answer 503 with words; then all is there."""
    settings = make_settings(redis_url=redis_url, catalogue_url=own_mariadb.new_database("down"))
    async with running_api(settings) as api:
        await api.upload(clip, "a.mp4")
        await api.settled()
        own_mariadb.kill()
        assert (await api.upload(clip, "b.mp4")).status == 200
        for path in ("/api/videos/list", "/api/videos", "/api/videos/storage-stats", "/api/video-info/x"):
            answer = await api.get(path)
            assert (answer.status, answer.body["success"]) == (503, False)
            assert "catalogue" in answer.body["error"]
        assert "catalogue" in await problems(api)
        assert (await api.get("/metrics")).status == 200
        own_mariadb.start()

        async def both() -> bool:
            answer = await api.get("/api/videos/list")
            return answer.status == 200 and bool(answer.body["count"] == 2)

        await until(both, 40)


async def test_without_a_worker_it_is_not_ready(api: Api) -> None:
    """The API alone watches nothing."""
    await api.settled()
    assert await problems(api) == {"worker"}


# ---------------------------------------------------------------- the process


@contextmanager
def process(folder: Path, redis_url: str, port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`spoolhouse api` as a process of its own, listening."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "SPOOLHOUSE_DATA": str(folder / "data"),
        "SPOOLHOUSE_REDIS_URL": redis_url,
        "SPOOLHOUSE_PORT": str(port),
        **more,
    }
    command = [sys.executable, "-P", "-m", "api.cli", "api"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def listens(port: int) -> bool:
    """Whether someone accepts there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_stopping_api_lets_an_upload_finish(tmp_path: Path, redis_url: str, clip: Path) -> None:
    """SIGTERM in the middle of an upload: nothing new is accepted, this one is answered with 200, then it ends."""
    port = free_port()
    with process(tmp_path, redis_url, port) as running:
        await until(lambda: listens(port))
        body = form_bytes(clip.read_bytes())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes(b"", len(body)) + body[: len(body) // 2])
        await writer.drain()
        await until(lambda: any((tmp_path / "data" / "uploaded_videos" / ".incoming").glob("*.tmp")))
        running.send_signal(signal.SIGTERM)
        await until(lambda: not listens(port))
        writer.write(body[len(body) // 2 :])
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 200")
        told = orjson.loads(answer.partition(b"\r\n\r\n")[2])
        assert Path(told["local_backup"]).read_bytes() == clip.read_bytes()
        writer.close()
        await writer.wait_closed()
        assert await asyncio.to_thread(running.wait, 20) == 0


async def test_a_stopping_api_does_not_wait_for_ever(tmp_path: Path, redis_url: str, clip: Path) -> None:
    """An upload that does not end within the drain time is broken off; nothing of it is left."""
    port = free_port()
    with process(tmp_path, redis_url, port, SPOOLHOUSE_DRAIN="0.3") as running:
        await until(lambda: listens(port))
        body = form_bytes(clip.read_bytes())
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes(b"", len(body)) + body[:-10])
        uploads = tmp_path / "data" / "uploaded_videos"
        await until(lambda: any((uploads / ".incoming").glob("*.tmp")))
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait, 20) == 0
        assert [path for path in uploads.rglob("*") if path.is_file()] == []
        writer.close()


async def test_several_ports(tmp_path: Path, redis_url: str) -> None:
    """`SPOOLHOUSE_PORT` takes a list."""
    ports = (free_port(), free_port())
    with process(tmp_path, redis_url, 0, SPOOLHOUSE_PORT=f"{ports[0]}, {ports[1]}") as running:
        await until(lambda: all(map(listens, ports)))
        running.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(running.wait, 20) == 0


async def test_a_port_in_use(tmp_path: Path, redis_url: str) -> None:
    """One line that says so, exit status 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with process(tmp_path, redis_url, port) as running:
            _, said = await asyncio.to_thread(running.communicate, None, 30)
            assert running.returncode == 1
            assert f"Port {port}" in said.decode()
            assert "Traceback" not in said.decode()


@pytest.mark.parametrize("seconds", [0.5])
async def test_a_redis_that_hangs_delays_nothing_for_long(
    own_api: Api, own_redis: RedisServer, clip: Path, seconds: float
) -> None:
    """Accepting connections and answering nothing: uploads are taken, `/readyz` answers in time."""
    await own_api.settled()
    with own_redis.frozen():
        began = time.monotonic()
        uploaded: Any = await own_api.upload(clip)
        assert uploaded.status == 200
        assert "redis" in await problems(own_api)
        assert time.monotonic() - began < 10 + seconds
