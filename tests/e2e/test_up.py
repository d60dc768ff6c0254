"""`spoolhouse up`: what it says, what it starts, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from api.embedded_redis import embedded_url
from tests.e2e.running import Running, spoolhouse, until
from tests.servers import RedisServer


def family(running: Running) -> list[int]:
    """Process ids of everything that a running Spoolhouse started."""
    found, asked = [], [running.process.pid]
    while asked:
        children = Path(f"/proc/{asked[0]}/task/{asked.pop(0)}/children").read_text().split()
        found += [int(pid) for pid in children]
        asked += [int(pid) for pid in children]
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_says_its_choices_and_leaves_nothing_running(tmp_path: Path) -> None:
    """One line for each choice, then the address; SIGTERM ends all of it."""
    data = tmp_path / "data"
    with spoolhouse(data) as running:
        ready = f"ready at http://127.0.0.1:{running.port}"
        until(lambda: ready in running.output.read_text(), why="the ready line")
        lines = running.output.read_text().splitlines()
        for start in ("log        embedded Redis", f"catalogue  SQLite, {data}/catalogue.sqlite3"):
            assert any(line.startswith(start) for line in lines), start
        for line in (
            *(f"storage    {data}/uploaded_videos", "Drive      not configured"),
            *("S3         not configured", f"watched    {data}/inbox"),
        ):
            assert line in lines
        started = family(running)
        assert len(started) >= 3
        assert running.stop() == 0
        assert running.output.read_text().rstrip().endswith("stopped")
        assert not [pid for pid in started if alive(pid)]
        assert embedded_url(data / "redis") is None


def test_second_start_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """It says who runs already and what to do."""
    with spoolhouse(tmp_path / "data") as running:
        command = [sys.executable, "-m", "api.cli", "up", "--data", str(tmp_path / "data"), "--port", "0"]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
        assert second.returncode == 1
        assert f"running already on {tmp_path / 'data'} (process {running.process.pid})" in second.stderr
        assert "--data" in second.stderr
        assert running.get("/healthz") is not None


def test_port_of_another_program_is_said(tmp_path: Path, redis_server: RedisServer) -> None:
    """At once, and before anything is started."""
    port = str(redis_server.port)
    command = [sys.executable, "-m", "api.cli", "up", "--data", str(tmp_path / "data"), "--port", port]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in refused.stderr


def test_nothing_outlives_a_killed_start(tmp_path: Path) -> None:
    """SIGKILL of `up` itself: its children go, and the next start has all the data."""
    data = tmp_path / "data"
    with spoolhouse(data, "--demo") as running:
        until(running.videos, why="the demo video in the catalogue")
        started = family(running)
        running.process.kill()
        running.process.wait()
        until(lambda: not [pid for pid in started if alive(pid)], why="the end of all children")
    with spoolhouse(data) as running:
        [video] = until(running.videos, why="the demo video after the restart")
        assert video["filename"] == "spoolhouse-demo.mp4"
        assert running.stop() == 0


def test_killed_redis_is_started_again(tmp_path: Path) -> None:
    """And everything goes on."""
    with spoolhouse(tmp_path / "data") as running:
        [redis] = [pid for pid in family(running) if Path(f"/proc/{pid}/comm").read_text().startswith("redis-server")]
        os.kill(redis, signal.SIGKILL)
        until(lambda: "redis ended unexpectedly (SIGKILL)" in running.output.read_text(), why="a word about it")
        until(lambda: running.get("/readyz"), why="readiness after the kill")
        assert running.stop() == 0


def test_configured_redis_is_used(tmp_path: Path, redis_url: str) -> None:
    """No other is started."""
    with spoolhouse(tmp_path / "data", SPOOLHOUSE_REDIS_URL=redis_url) as running:
        assert f"log        {redis_url}" in running.output.read_text().splitlines()
        names = [Path(f"/proc/{pid}/comm").read_text() for pid in family(running)]
        assert not [name for name in names if name.startswith("redis")]
        assert running.stop() == 0
