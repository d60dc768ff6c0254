"""`spoolhouse drive`: what stands between us and Google Drive, in words; once more to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from streams.events import DriveUploadFailed, VideoOffloaded
from streams.log import new_event
from streams.paths import OsPath
from streams.settings import Settings
from tests.api.running import Api, running_api
from tests.drive_server import DriveServer

Spoolhouse = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def spoolhouse(clean_env: Path, drive_server: DriveServer, monkeypatch: pytest.MonkeyPatch) -> Spoolhouse:
    """Runs a command with the tests' Drive configured, in a thread, as it has a loop of its own."""
    for name, value in drive_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPOOLHOUSE_DATA", str(clean_env / "data"))

    async def run(*arguments: str, status: int = 0) -> Result:
        result: Result = await asyncio.to_thread(CliRunner().invoke, main, ["drive", *arguments])
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


async def test_all_is_well(spoolhouse: Spoolhouse, drive_server: DriveServer) -> None:
    """Every step is named; nothing is put into the folder."""
    told = (await spoolhouse("check")).stdout

    for subject in ("credentials", "token", "folder", "rights", "quota", "sharing"):
        assert f"{subject} " in told
    assert "failed" not in told
    assert not any(request["path"].startswith("/upload") for request in drive_server.requests())


async def test_a_file_is_tried_out(spoolhouse: Spoolhouse, drive_server: DriveServer) -> None:
    """Up, compared, shared, down again, deleted: each step is said, and nothing is left."""
    told = (await spoolhouse("check", "--upload")).stdout
    assert [line.split()[0] for line in told.splitlines()[-6:]] == [
        "uploading",
        "size",
        "shared",
        "read",
        "deleted",
        "Google",
    ]
    assert drive_server.files() == drive_server.files(trashed=True) == []
    as_json = orjson.loads((await spoolhouse("check", "--upload", "--json")).stdout)
    assert as_json["ok"] is True
    assert as_json["upload"][-1] == "Google Drive works."


def no_room(server: DriveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVE_FOLDER_ID", server.folder_id)


def hidden(server: DriveServer, _: pytest.MonkeyPatch) -> None:
    server.configure(hidden=[server.shared_drive_folder_id])


def readonly(server: DriveServer, _: pytest.MonkeyPatch) -> None:
    server.configure(readonly=[server.shared_drive_folder_id])


def refused(server: DriveServer, _: pytest.MonkeyPatch) -> None:
    server.refuse_credentials()


def old_token(server: DriveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLHOUSE_DRIVE_CREDENTIALS", str(server.credentials(server.folder / "user.json", "token")))
    server.refuse_credentials()


def away(server: DriveServer, _: pytest.MonkeyPatch) -> None:
    server.stop()


def not_shareable(server: DriveServer, _: pytest.MonkeyPatch) -> None:
    server.configure(forbidden_audiences=["anyone"])


def no_file(_: DriveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOOLHOUSE_DRIVE_CREDENTIALS", "/nowhere/credentials.json")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (no_room, "no storage quota of their own"),
        (hidden, "share the folder with"),
        (readonly, "as an editor"),
        (refused, "invalid_grant"),
        (old_token, "7 days"),
        (away, "check the network"),
        (not_shareable, "SPOOLHOUSE_DRIVE_SHARE"),
        (no_file, "Could not initialize Drive service"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(
    spoolhouse: Spoolhouse,
    drive_server: DriveServer,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[DriveServer, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    """Exit status 1, one fault named, and no file is sent."""
    wrong(drive_server, monkeypatch)

    told = (await spoolhouse("check", "--upload", status=1)).stdout

    assert words in told
    assert told.count("failed") == 1
    assert "Nothing was uploaded" in told


async def test_a_file_that_cannot_be_tried_out_is_removed_all_the_same(
    spoolhouse: Spoolhouse, drive_server: DriveServer
) -> None:
    """What arrives changed on its way is noticed."""
    drive_server.inject("PUT /upload", "corrupt")

    told = (await spoolhouse("check", "--upload", status=1)).stdout

    assert "size or checksum in Drive differ" in told
    assert "deleted again" in told
    assert drive_server.files() == []


async def test_without_settings_it_says_which(spoolhouse: Spoolhouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is configured: how that is done."""
    monkeypatch.delenv("DRIVE_FOLDER_ID")
    monkeypatch.delenv("SPOOLHOUSE_DRIVE_CREDENTIALS")
    assert "Set DRIVE_FOLDER_ID" in (await spoolhouse("check", status=1)).stderr


def test_the_script_of_the_old_name_does_it(tmp_path: Path, drive_server: DriveServer) -> None:
    """scripts/test_drive_upload."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "test_drive_upload", scripts)
    # An environment that is there already, in place of one that would be installed.
    (scripts / "environment.sh").write_text(f"venv={Path(sys.executable).parents[1]}\nprepare_environment() {{ :; }}\n")
    done = subprocess.run(
        [scripts / "test_drive_upload"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "SPOOLHOUSE_DATA": str(tmp_path / "data"), **drive_server.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Google Drive works." in done.stdout


# ---------------------------------------------------------------- retry


@pytest.fixture
async def api(
    spoolhouse: Spoolhouse, make_settings: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """An API with Drive configured, and no worker that copies: uploads wait for nothing."""
    monkeypatch.setenv("SPOOLHOUSE_REDIS_URL", redis_url)
    async with running_api(make_settings(redis_url=redis_url, drive_wait=0.0)) as api:
        yield api


async def uploaded(api: Api, clip: Path, *, failed: bool) -> str:
    """An upload, whose copy failed or is still to come."""
    answer = await api.upload(clip)
    video = str(answer.body["id"])
    if failed:
        event = DriveUploadFailed(
            revision=1,
            filename=answer.body["filename"],
            path=OsPath(answer.body["local_backup"]),
            door="upload",
            episode=1,
            reason="no one knows",
        )
        await api.services.log.append(new_event(video, event, source="drive"))
    return video


async def requests(api: Api, video: str) -> int:
    """How often a copy was asked for."""
    return sum(one.type == "DriveUploadRequested" for one in await api.services.log.history(video))


async def test_one_video_again(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """By the first characters of its id, or all of it."""
    video = await uploaded(api, clip, failed=False)
    await api.settled()

    assert "is in the queue" in (await spoolhouse("retry", video[:8])).stdout
    assert "is in the queue" in (await spoolhouse("retry", video)).stdout

    assert await requests(api, video) == 2


async def test_all_that_failed_again(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """And nothing else."""
    failed = [await uploaded(api, clip, failed=True) for _ in range(3)]
    fine = await uploaded(api, clip, failed=False)
    await api.settled()

    told = (await spoolhouse("retry", "--failed")).stdout

    assert {line.split()[0] for line in told.splitlines()} == set(failed)
    assert [await requests(api, video) for video in (*failed, fine)] == [1, 1, 1, 0]


async def test_what_cannot_be_tried_again_is_said(api: Api, spoolhouse: Spoolhouse, clip: Path) -> None:
    """Unknown ids, files that are elsewhere by now, nothing named; the others are tried all the same."""
    video, gone = await uploaded(api, clip, failed=False), await uploaded(api, clip, failed=False)
    offloaded = VideoOffloaded(revision=1, path=OsPath("/gone"), size=1, replicas=("s3",), offload=1)
    await api.services.log.append(new_event(gone, offloaded, source="retention"))
    unknown = "00000000-0000-4000-8000-000000000000"

    result = await spoolhouse("retry", unknown, gone, video, status=1)

    assert f"There is no video {unknown}" in result.stderr
    assert "spoolhouse restore" in result.stderr
    assert video in result.stdout
    answer = await api.ask("POST", f"/api/videos/{gone}/drive/retry")
    assert (answer.status, "offloaded" in answer.body["error"]) == (409, True)
    assert "Name the videos" in (await spoolhouse("retry", status=2)).stderr
    assert "No copy to Google Drive has failed." in (await spoolhouse("retry", "--failed")).stdout
