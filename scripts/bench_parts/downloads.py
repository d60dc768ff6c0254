"""A URL through the queue into the media root, beside yt-dlp by itself; and what many of them cost."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.bench_parts import site, worlds
from scripts.bench_parts.installed import Installed, spoolhouse_up
from scripts.bench_parts.processes import MIB, resident_tree
from scripts.bench_parts.rows import Row, Size

POLL = 0.02
"""Seconds between two looks."""

GIVE_UP = 1800.0

SIDE_BY_SIDE = 4


def run(size: Size) -> list[Row]:
    """One large file, several times; then many small ones."""
    large, rounds = size.of(1, 300, 1024) * MIB, size.of(1, 3, 5)
    count = size.of(2, 60, 1000)
    with worlds.folder("downloads") as place, site.beside(large) as address:
        allowed = urlsplit(address).netloc
        with spoolhouse_up(place, SPOOLHOUSE_DOWNLOAD_ALLOW=allowed) as running:
            _fetched(running, [f"{address}/films/first.mp4"])  # the first child has started now
            pairs = []
            for number in range(rounds):
                url = f"{address}/large/{number}.mp4"
                pairs.append((_fetched(running, [url]), _alone(place / f"alone{number}", [url], 1)))
            _asked(running, "PATCH", "/config", {"concurrency": SIDE_BY_SIDE})
            urls = [f"{address}/films/{number}.mp4" for number in range(2 * count)]
            before = _warm(running, urls[:count])
            ours = _fetched(running, urls[count:])
            after = resident_tree(running.pid)
        alone = _alone(place / "many", urls[count:], SIDE_BY_SIDE)
    return [_large(pairs, large), _many(ours, alone, count), _memory(before, after, count)]


def _large(pairs: list[tuple[float, float]], large: int) -> Row:
    ours, alone = (statistics.median(one) for one in zip(*pairs, strict=True))
    over = statistics.median(one - 1.1 * other for one, other in pairs)
    return Row(
        f"a file of {large // MIB} MiB: POST → in the media root with poster and `.nfo` (peer: `yt-dlp URL`)",
        f"{ours:.2f} s",
        f"{alone:.2f} s",
        ours / alone,
        "≤ 1.1 × and 1 s",
        over <= 1.0,
    )


def _many(ours: float, alone: float, count: int) -> Row:
    return Row(
        f"{count} small files, {SIDE_BY_SIDE} side by side (peer: `xargs -P{SIDE_BY_SIDE} -n1 yt-dlp`)",
        f"{count / ours:.1f} a second",
        f"{count / alone:.1f} a second",
        alone / ours,
        "≥ 1 ×",
        alone >= ours,
    )


def _memory(before: int, after: int, count: int) -> Row:
    return Row(
        f"memory of all processes after {count} downloads, and {count} later",
        f"{before / MIB:.0f} MiB, {(after - before) / MIB:+.0f} MiB",
        target="< 10 % more",
        ok=after < 1.1 * before,
    )


def _warm(running: Installed, urls: list[str]) -> int:
    """Bytes in use after so many downloads."""
    _fetched(running, urls)
    return resident_tree(running.pid)


def _fetched(running: Installed, urls: list[str]) -> float:
    """Seconds until all of them are there."""
    began = time.perf_counter()
    numbers = {_asked(running, "POST", "/videos", {"url": url})["id"] for url in urls}
    last = max(numbers)
    # They are started in order: while the last one is open, one question tells enough.
    while _asked(running, "GET", f"/videos/{last}")["status"] in {"Pending", "Processing"}:
        _wait(began)
    while any(_asked(running, "GET", f"/videos?status={one}") for one in ("Pending", "Processing")):
        _wait(began)
    took = time.perf_counter() - began
    if failed := _asked(running, "GET", "/videos?status=Error"):
        raise RuntimeError(f"downloads failed: {failed[0]['status_message']}")
    return took


def _wait(began: float) -> None:
    if time.perf_counter() - began > GIVE_UP:
        raise TimeoutError("downloads did not come to an end")
    time.sleep(POLL)


def _alone(folder: Path, urls: list[str], side_by_side: int) -> float:
    """Seconds that yt-dlp takes by itself, started once for each of them."""
    folder.mkdir()
    program = [sys.executable, "-m", "yt_dlp", "--quiet", "--no-warnings", "--no-cache-dir", "--ignore-config"]
    began = time.perf_counter()
    subprocess.run(
        ["xargs", f"-P{side_by_side}", "-n1", *program],
        input="\n".join(urls),
        text=True,
        cwd=folder,
        check=True,
        timeout=GIVE_UP,
    )
    return time.perf_counter() - began


def _asked(running: Installed, method: str, path: str, body: object = None) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {told}")
        return told
