"""`spoolhouse drive`: whether Google Drive can be used, and once more to it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from api.bootstrap import open_reading
from api.connecting import redis_url
from api.drive_retrying import Retried, retry, set_aside
from api.showing import AS_JSON, console, plain, print_json, run, table
from processors.ports import Drive, DriveFile, Finding
from processors.storage.drive import open_drive
from streams.errors import (
    DependencyDownError,
    NotFoundError,
    RejectedError,
    SpoolhouseError,
    StartError,
    TransientError,
)
from streams.log import open_log
from streams.settings import Settings, load_settings

TEST_SIZE = 4096
"""Bytes of the file that `check --upload` sends."""

FULL_ID = 36
"""Characters of a video's id."""

CHECKSUM_LOOKS = 8
"""How often Drive is asked for the checksum of a new file, half a second apart."""


@click.group()
def drive() -> None:
    """Google Drive: check that it can be used, have videos copied there once more."""


@drive.command()
@click.option("--upload", is_flag=True, help="Also upload a tiny file, compare it, and delete it again.")
@AS_JSON
@click.pass_context
def check(ctx: click.Context, *, upload: bool, as_json: bool) -> None:
    """Test credentials, folder, rights, room and sharing, and say what to do where something is wrong.

    The exit status is 1 then.
    """
    well = run(_check(upload=upload, as_json=as_json))
    ctx.exit(0 if well else 1)


@drive.command("retry")
@click.argument("videos", nargs=-1, metavar="[ID]…")
@click.option("--failed", is_flag=True, help="All videos whose copy failed, was given up or is damaged.")
@click.pass_context
def retry_(ctx: click.Context, videos: tuple[str, ...], *, failed: bool) -> None:
    """Have videos copied to Google Drive now. The first characters of an id will do."""
    if bool(videos) == failed:
        raise click.UsageError("Name the videos by their ids (`spoolhouse list` shows them), or say --failed.")
    ctx.exit(0 if run(_retry(videos)) else 1)


# ---------------------------------------------------------------- check


async def _check(*, upload: bool, as_json: bool) -> bool:
    settings = load_settings()
    if not settings.drive_configured:
        raise StartError(
            "Google Drive is not configured. Set DRIVE_FOLDER_ID (the last part of the folder's address in the "
            "browser) and put a credentials.json here or name it in SPOOLHOUSE_DRIVE_CREDENTIALS."
        )
    async with open_drive(settings) as opened:
        findings = await opened.diagnose()
        well = all(finding.ok for finding in findings)
        steps: list[str] = []
        say = steps.append if as_json else click.echo
        if not as_json:
            _show(findings)
        if upload and well:
            well = await _try_out(opened, settings, say)
        elif upload:
            say("Nothing was uploaded: mend that first.")
        if as_json:
            print_json({"ok": well, "findings": [asdict(finding) for finding in findings], "upload": steps})
        return well


def _show(findings: Sequence[Finding]) -> None:
    shown = table("", "", "")
    shown.show_header = False
    for finding in findings:
        mark = plain("ok", "green") if finding.ok else plain("failed", "bold red")
        shown.add_row(plain(finding.subject, "bold"), mark, plain(finding.told))
        if finding.advice:
            shown.add_row("", "", plain(f"→ {finding.advice}"))
    console().print(shown)


async def _try_out(opened: Drive, settings: Settings, say: Callable[[str], None]) -> bool:
    """Upload, compare, share, read back, delete: True where all of it worked. Says each step."""
    data = os.urandom(TEST_SIZE)
    name = f"spoolhouse-test-{datetime.now():%Y%m%d_%H%M%S}.bin"  # noqa: DTZ005 # for whoever finds it in the folder
    file_id: str | None = None
    well = False
    try:
        file_id = await opened.new_file_id()
        say(f"uploading {name} ({len(data)} bytes) as {file_id}")
        uri = await opened.open_session(file_id, name, "application/octet-stream", len(data), {"spoolhouse": "test"})
        sent = await opened.send(uri, data, 0, len(data))
        if not isinstance(sent, DriveFile):
            raise TransientError(f"Drive has {sent} of {len(data)} bytes and did not take the rest")
        await _compare(opened, sent, data)
        say(f"size and checksum are right: {sent.link}")
        if settings.drive_share != "nobody":
            await opened.share(file_id, settings.drive_share)
            say(f"shared with {settings.drive_share}")
        if await opened.download(file_id, 0, len(data)) != data:
            raise TransientError("what Drive gives back differs from what was sent")
        say("read back: the same bytes")
        well = True
    except SpoolhouseError as error:
        say(f"failed: {error}")
    finally:
        if file_id is not None:
            try:
                await opened.delete(file_id)
                say("deleted again")
            except SpoolhouseError as error:
                say(f"failed: {name} could not be deleted from the folder: {error}")
                well = False
    if well:
        say("Google Drive works.")
    return well


async def _compare(opened: Drive, file: DriveFile, data: bytes) -> None:
    """Raise TransientError where Drive's file is not ours."""
    known: DriveFile | None = file
    for _ in range(CHECKSUM_LOOKS):
        if known is None or known.md5 is not None:
            break
        await asyncio.sleep(0.5)
        known = await opened.get(file.id)
    expected = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if known is None or (known.size, known.md5) != (len(data), expected):
        raise TransientError("size or checksum in Drive differ from what was sent")


# ---------------------------------------------------------------- retry


async def _retry(videos: Sequence[str]) -> bool:
    """Retry these, or all that failed; False where one could not be."""
    settings = load_settings()
    well = True
    async with open_log(settings, redis_url(settings)) as log:
        chosen = [await _named(settings, video) for video in videos] or await _failed(settings, await set_aside(log))
        if not chosen:
            click.echo("No copy to Google Drive has failed.")
        for video in chosen:
            try:
                _tell(await retry(log, settings, video))
            except (NotFoundError, RejectedError) as error:
                click.echo(f"{video}: {error}", err=True)
                well = False
    return well


def _tell(done: Retried) -> None:
    click.echo(f"{done.video} {done.words}")


async def _named(settings: Settings, start: str) -> str:
    """The id that begins so. A whole one is not looked up: the catalogue may be down."""
    if len(start) >= FULL_ID:
        return start.lower()
    async with open_reading(settings) as reading:
        matches = await reading.catalogue.ids_beginning(start.lower(), 3)
    if not matches:
        raise NotFoundError(f"There is no video whose id begins with {start!r}: `spoolhouse list` shows them.")
    if len(matches) > 1:
        raise RejectedError(400, f"More than one id begins with {start!r}: {', '.join(matches)} … Give more of it.")
    return str(matches[0])


async def _failed(settings: Settings, waiting: Sequence[str]) -> list[str]:
    """Those that wait for another try or a person, and those that the catalogue knows to have failed."""
    found: dict[str, Any] = dict.fromkeys(waiting)
    try:
        async with open_reading(settings) as reading:
            async for video in reading.catalogue.copies(state="present"):
                copy = video.copy("drive")
                if copy is not None and copy.state in {"failed", "damaged"}:
                    found[video.id] = None
    except DependencyDownError as error:
        click.echo(f"The catalogue cannot be asked, what it alone knows is left out: {error}", err=True)
    return list(found)
