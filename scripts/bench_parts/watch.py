"""From the moment in which a writer closes a file in a watched folder until its row is there."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from scripts.bench_parts import worlds
from scripts.bench_parts.installed import spoolhouse_up
from scripts.bench_parts.rows import Row, Size, percentile

POLL = 0.002
"""Seconds between two looks."""

APART = 0.3
"""Seconds between two files: each is alone, as a person's are."""

GIVE_UP = 30.0


def run(size: Size) -> list[Row]:
    """By a look into the catalogue's SQLite file, and by asking the API."""
    count = size.of(2, 25, 60)
    with worlds.folder("watch") as place, spoolhouse_up(place) as running:
        inbox = running.data / "inbox"

        def in_api(name: str) -> bool:
            status, answer = running.ask(f"/api/videos?limit=5&q={name}")
            return status == 200 and any(video["filename"] == name for video in answer["videos"])

        with closing(sqlite3.connect(f"file:{running.data / 'catalogue.sqlite3'}?mode=ro", uri=True)) as catalogue:

            def in_catalogue(name: str) -> bool:
                found = catalogue.execute("SELECT 1 FROM catalogue WHERE filename = ?", (name,)).fetchone()
                return found is not None

            _seconds(inbox, "first.mp4", in_catalogue)
            looked = [_seconds(inbox, f"looked-{number:03}.mp4", in_catalogue) for number in range(count)]
        asked = [_seconds(inbox, f"asked-{number:03}.mp4", in_api) for number in range(count)]
    return [
        _row(f"writer closes → row in the catalogue, {count} files", looked),
        _row(f"writer closes → listed by `/api/videos`, {count} files", asked),
    ]


def _row(what: str, seconds: list[float]) -> Row:
    p50, p95 = 1000 * percentile(seconds, 50), 1000 * percentile(seconds, 95)
    return Row(what, f"p50 {p50:.0f} ms (p95 {p95:.0f} ms)", target="p50 < 100 ms", ok=p50 < 100)


def _seconds(inbox: Path, name: str, there: Callable[[str], bool]) -> float:
    """Write a file in two parts, close it, and wait until it is there."""
    time.sleep(APART)
    with (inbox / name).open("wb") as file:
        file.write(b"half of something ")
        file.flush()
        time.sleep(0.02)
        file.write(b"and the other half")
    began = time.perf_counter()
    while not there(name):
        if time.perf_counter() - began > GIVE_UP:
            raise TimeoutError(f"{name} did not come into the catalogue")
        time.sleep(POLL)
    return time.perf_counter() - began
