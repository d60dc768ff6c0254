"""`spoolhouse retention` and scripts/cleanup_old_videos: what they do, and how they say it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from api.cli import main
from projections.database import open_database
from projections.projection import discover
from projections.runner import Runner
from streams.background import running
from streams.log import open_log
from streams.settings import Settings
from tests.processors.retaining import World, world

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
async def here(
    s3_env: dict[str, str], make_settings: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Old videos, the S3 server, and tables that follow the log; commands find them by the environment."""
    settings = make_settings(redis_url=redis_url, partitions=2)
    for name, value in {"DATA": str(settings.data), "REDIS_URL": redis_url, "PARTITIONS": "2"}.items():
        monkeypatch.setenv(f"SPOOLHOUSE_{name}", value)
    async with open_log(settings, redis_url) as log, open_database(settings) as database:
        runner = Runner(log, database, discover(settings))
        async with running(runner.run()), world(log, settings) as made:
            yield made


async def spoolhouse(*arguments: str, status: int = 0) -> str:
    """What a command says on stdout; in a thread, as it has a loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout + (result.stderr if status else "")


async def test_each_file_with_the_reason_and_a_sum(here: World) -> None:
    """First what would happen, then what did."""
    whole, lacking = await here.upload("whole.mp4"), await here.upload("lacking.mp4", copy=False)
    told = orjson.loads(await spoolhouse("retention", "--dry-run", "--json"))
    assert (told["days"], told["would_delete"], told["deleted"], told["kept"]) == (30, 1, 0, 1)
    assert (here.settings.uploads / "whole.mp4").exists()
    lines = await spoolhouse("retention", "--dry-run")
    assert "would delete" in lines
    assert "1 would be deleted (9.77 KB), 1 kept" in lines
    told = orjson.loads(await spoolhouse("retention", "--days", "30", "--json"))
    files = {one["id"]: one for one in told["files"]}
    assert (files[whole]["verdict"], files[whole]["freed_bytes"]) == ("deleted", 10_000)
    assert files[lacking]["reason"] == "there is no complete copy in the object store yet"
    assert (told["deleted"], told["freed_bytes"], told["error"]) == (1, 10_000, None)
    assert not (here.settings.uploads / "whole.mp4").exists()
    lines = await spoolhouse("retention")
    assert "lacking.mp4  (there is no complete copy in the object store yet)" in lines
    assert "0 deleted (0 bytes), 1 kept" in lines
    assert await spoolhouse("retention", "--days", "90") == "No video came in more than 90 days ago.\n"


async def test_days_to_keep_is_respected(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the old script had."""
    await here.upload()
    monkeypatch.setenv("DAYS_TO_KEEP", "61")
    assert "more than 61 days ago" in await spoolhouse("retention")
    monkeypatch.setenv("DAYS_TO_KEEP", "59")
    assert "1 deleted" in await spoolhouse("retention")


async def test_a_log_that_is_gone_is_said(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1; nothing was deleted."""
    await here.upload()
    monkeypatch.setenv("SPOOLHOUSE_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "nothing more was deleted" in await spoolhouse("retention", status=1)
    assert (here.settings.uploads / "lesson.mp4").exists()


async def test_the_old_script(here: World, tmp_path: Path) -> None:
    """The same lines as ever, arguments passed on."""
    await here.upload("20241112_143052_Trip.mp4")
    await here.upload("lacking.mp4", copy=False)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(SCRIPTS / "cleanup_old_videos", scripts)
    # It would install what is locked; this Python has it.
    (scripts / "environment.sh").write_text(f"prepare_environment() {{ venv={Path(sys.executable).parents[1]}; }}\n")

    would = await spoolhouse("retention", "--cleanup", "--dry-run")
    assert "Would delete old video: 20241112_143052_Trip.mp4" in would.splitlines()
    process = await asyncio.create_subprocess_exec(
        str(scripts / "cleanup_old_videos"), "--days", "30", stdout=subprocess.PIPE, env=os.environ
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    lines = out.decode().splitlines()
    assert "Deleting old video: 20241112_143052_Trip.mp4" in lines
    assert "Keeping old video: lacking.mp4 (there is no complete copy in the object store yet)" in lines
