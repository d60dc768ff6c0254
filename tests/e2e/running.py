"""Spoolhouse as a user runs it: `spoolhouse up` as a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projections.projection import discover
from streams.settings import Settings

PATIENCE = 100.0
"""Seconds that anything here may take before a test gives up."""


def until(what: Callable[[], Any], *, seconds: float = PATIENCE, why: str = "it") -> Any:
    """Ask until the answer is truthy; the answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{why} did not happen within {seconds:g} s")


def compared() -> int:
    """How many projections `spoolhouse rebuild --compare` compares."""
    return sum(one.compared for one in discover(Settings.model_construct()))


def free_port() -> int:
    """A TCP port that is free just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass
class Running:
    """A running Spoolhouse."""

    process: subprocess.Popen[str]
    data: Path
    port: int
    output: Path
    environment: Mapping[str, str]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `spoolhouse` command on the same data."""
        return subprocess.run(
            [sys.executable, "-m", "api.cli", *words],
            env={**self.environment, "SPOOLHOUSE_DATA": str(self.data), "SPOOLHOUSE_PORT": str(self.port)},
            cwd=self.data.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def get(self, path: str) -> Any:
        """JSON from the API; None where it does not answer or says no."""
        status, body = self.ask("GET", path)
        return body if status == 200 else None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON; status 0 where nothing answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")
        except (urllib.error.URLError, OSError):
            return 0, None

    def upload(self, name: str, content: bytes, label: str | None = None) -> tuple[int, Any]:
        """What `curl -F video=@name -F contentType=label` does."""
        boundary = uuid.uuid4().hex
        parts = []
        if label is not None:
            parts.append(
                f'--{boundary}\r\nContent-Disposition: form-data; name="contentType"\r\n\r\n{label}\r\n'.encode()
            )
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{name}"\r\n'
            "Content-Type: video/mp4\r\n\r\n"
        )
        parts += [head.encode(), content, f"\r\n--{boundary}--\r\n".encode()]
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.ask("POST", "/api/upload-video", b"".join(parts), kind)

    def videos(self, **filters: str) -> list[dict[str, Any]]:
        """The catalogue's list; empty where it does not answer."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        return (self.get(f"/api/videos?limit=200&{query}") or {}).get("videos", [])

    def child(self, name: str) -> int:
        """The process id of `api` or `worker`."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", f"api.cli {name}"], capture_output=True, text=True, check=False
        )
        return int(found.stdout.split()[0]) if found.stdout.split() else 0

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """One more worker on the same data; its output goes to the same file."""
        settings = {"SPOOLHOUSE_DATA": str(self.data), "SPOOLHOUSE_PORT": str(self.port)}
        with self.output.open("a") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "worker"],
                env={**self.environment, **settings},
                cwd=self.data.parent,
                stdout=out,
                stderr=out,
                text=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> int:
        """SIGTERM and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def spoolhouse(data: Path, *options: str, port: int | None = None, **settings: str) -> Iterator[Running]:
    """`spoolhouse up` on a data folder, until it is ready; ended with the block."""
    port = port or free_port()
    output = data.parent / f"{data.name}.out"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_"))},
        # Pictures of every video cost the tests more than they tell, but for those that are about them.
        "SPOOLHOUSE_PREVIEWS": "false",
        **settings,
    }
    command = [sys.executable, "-m", "api.cli", "up", "--data", str(data), "--port", str(port), *options]
    with output.open("a") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, text=True, env=environment, cwd=data.parent)
    running = Running(process, data, port, output, environment)
    try:
        until(lambda: running.get("/readyz") or process.poll() is not None, why=f"readiness ({output})")
        assert process.poll() is None, output.read_text()
        yield running
    except BaseException:
        print(output.read_text()[-8000:])
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
