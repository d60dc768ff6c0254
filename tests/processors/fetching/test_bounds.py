"""Children that fetch are bounded in time, memory and files, and leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from processors.fetching.fetcher import open_fetcher
from processors.ports import Fetched, FetchFailure, FetchJob
from streams.download_config import DownloadConfig
from streams.paths import OsPath
from streams.settings import Settings
from tests.sites import film_bytes, open_site

PROGRAM = "tests.processors.fetching.misbehaving"


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_every_trick(tmp_path: Path) -> None:
    """Each ends as what it is, soon, and the next download goes well."""
    settings = Settings(
        data=tmp_path / "data",
        download_allow=("127.0.0.1",),
        download_stall=1.5,
        download_timeout=6.0,
        download_memory=2**29,
    )
    wanted = {
        "/hang": "stalled",
        "/spin": "stalled",
        "/go-on": "timeout",
        "/eat": "memory",
        "/leave": "crashed",
        "/nonsense": "crashed",
    }
    folder = tmp_path / "work"
    folder.mkdir()
    film_bytes()  # made before anybody waits for it
    async with open_site() as site, open_fetcher(settings, program=PROGRAM) as fetcher:

        async def end(path: str) -> object:
            job = FetchJob(site.base + path, OsPath(str(folder)), DownloadConfig())
            async with aclosing(fetcher.fetch(job)) as saying:
                return [said async for said in saying][-1]

        ends = dict(zip(wanted, await asyncio.gather(*map(end, wanted)), strict=True))
        assert {path: last.kind if isinstance(last, FetchFailure) else last for path, last in ends.items()} == wanted
        assert "SPOOLHOUSE_DOWNLOAD_MEMORY" in ends["/eat"].advice  # type: ignore[attr-defined]
        assert isinstance(await end("/film.mp4"), Fetched)


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_what_a_child_started_ends_with_it(tmp_path: Path, how: str) -> None:
    """By its group: deno and the like must not live on."""
    settings = Settings(data=tmp_path / "data", download_allow=("127.0.0.1",))
    async with open_site() as site, open_fetcher(settings, program=PROGRAM) as fetcher:
        job = FetchJob(site.url("/spawn"), OsPath(str(tmp_path)), DownloadConfig())

        async def run() -> list[object]:
            async with aclosing(fetcher.fetch(job)) as saying:
                return [said async for said in saying]

        task = asyncio.create_task(run())
        note = tmp_path / "pid"
        while not note.exists() or not note.read_text():
            await asyncio.sleep(0.02)
        began = time.monotonic()
        if how == "cancelled":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            await fetcher._downloads.close()
            (last,) = await task
            assert isinstance(last, FetchFailure)
            assert last.kind == "unavailable"
        assert time.monotonic() - began < 2
        pid = int(note.read_text())
        while alive(pid):
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 2


async def test_the_child_is_confined(tmp_path: Path) -> None:
    """Memory, files, sizes; nothing of ours in its environment."""
    settings = Settings(data=tmp_path / "data", download_allow=("127.0.0.1",), download_max_size=10_000_000)
    async with open_site() as site, open_fetcher(settings) as fetcher:
        job = FetchJob(site.url("/film.mp4"), OsPath(str(tmp_path)), DownloadConfig())
        async with aclosing(fetcher.fetch(job)) as saying:
            async for _ in saying:
                pass
        (child,) = fetcher._downloads._resting
        place = Path(f"/proc/{child.pid}")
        limits = {line[:26].strip(): line[26:].split()[0] for line in (place / "limits").read_text().splitlines()}
        assert limits["Max data size"] == str(settings.download_memory)
        assert limits["Max file size"] == "10000000"
        assert limits["Max open files"] == "256"
        assert limits["Max core file size"] == "0"
        assert b"SPOOLHOUSE" not in (place / "environ").read_bytes()
        assert (place / "cwd").readlink() == Path("/")
        # Group and session are its own.
        assert (place / "stat").read_text().rpartition(")")[2].split()[2:4] == [str(child.pid)] * 2
