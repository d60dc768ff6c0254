"""`spoolhouse up` as a user runs it, with its processes to look at."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_parts.processes import tree

WITHIN = 120.0
"""Seconds that a start or an end may take."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A running Spoolhouse."""

    pid: int
    port: int
    data: Path

    @property
    def redis_url(self) -> str:
        """Of its private Redis."""
        return (self.data / "redis" / "url").read_text("utf-8")

    def processes(self) -> list[int]:
        """It and everything that it started."""
        return tree(self.pid)

    def api(self) -> int:
        """The process that serves the API."""
        for pid in self.processes():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"api":
                    return pid
        raise RuntimeError("there is no API process")

    def ask(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET; status 0 where nothing answers."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                return 0, None


@contextmanager
def spoolhouse_up(place: Path, **environment: str) -> Iterator[Installed]:
    """`spoolhouse up` on `place/data`, ready; ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data, output = place / "data", place / "up.log"
    with output.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.cli", "up", "--data", str(data), "--port", str(port)],
            env={**_clean(os.environ), "SPOOLHOUSE_LOG_LEVEL": "WARNING", **environment},
            cwd=place,
            stdout=out,
            stderr=out,
        )
    try:
        running = Installed(process.pid, port, data)
        deadline = time.monotonic() + WITHIN
        while running.ask("/readyz")[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"spoolhouse up did not get ready:\n{output.read_text()[-3000:]}")
            time.sleep(0.1)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(("SPOOLHOUSE_", "MYSQL_"))}
