"""`spoolhouse add`: send files to the API, with a progress bar."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.showing import run
from streams.errors import SpoolhouseError
from streams.paths import escape_path
from streams.settings import Settings, load_settings

CHUNK = 2**20

ANSWER_WITHIN = 600.0
"""Seconds without a byte in either direction after which the API counts as gone."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", default="", help="Becomes part of the stored name.")
@click.option("--url", help="Where the API is [default: http://127.0.0.1:<SPOOLHOUSE_PORT>].")
def add(files: tuple[Path, ...], label: str, url: str | None) -> None:
    """Send video files to Spoolhouse."""
    refused = run(_add(files, label, (url or _own_url(load_settings())).rstrip("/")))
    if refused:
        raise click.exceptions.Exit(1)


async def _add(files: tuple[Path, ...], label: str, url: str) -> int:
    """Send one after another; how many were refused."""
    refused = 0
    out, timeout = Console(stderr=True, highlight=False), aiohttp.ClientTimeout(total=None, sock_read=ANSWER_WITHIN)
    columns = (
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        with Progress(*columns, console=out, transient=True) as progress:
            for file in files:
                task = progress.add_task("", name=escape_path(file.name), total=file.stat().st_size)
                try:
                    answer = await _send(session, f"{url}/api/upload-video", file, label, progress, task)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    raise SpoolhouseError(
                        f"The API at {url} does not take {escape_path(str(file))} ({error}). "
                        "Is it running (spoolhouse up)? Another address: --url."
                    ) from error
                finally:
                    progress.remove_task(task)
                if answer.get("success"):
                    click.echo(f"{answer['id']}  {answer['local_backup']}")
                else:
                    refused += 1
                    out.print(
                        f"spoolhouse: {escape_path(str(file))}: {answer.get('error')}", markup=False, soft_wrap=True
                    )
    return refused


async def _send(
    session: aiohttp.ClientSession, url: str, file: Path, label: str, progress: Progress, task: TaskID
) -> dict[str, object]:
    """Send one file; what the API answers."""

    async def content() -> AsyncIterator[bytes]:
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield chunk
                progress.advance(task, len(chunk))

    form = aiohttp.FormData(quote_fields=False)
    if label:
        form.add_field("contentType", label)
    name = escape_path(file.name).replace('"', "%22")
    mime = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    form.add_field("video", content(), filename=name, content_type=mime)
    async with session.post(url, data=form) as response:
        if response.content_type != "application/json":
            raise SpoolhouseError(f"{url} is no Spoolhouse: it answers {response.status} {response.content_type}.")
        answer: dict[str, object] = await response.json()
        return answer


def _own_url(settings: Settings) -> str:
    """Where the API of these settings listens, seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 (compared, not bound)
    return f"http://[{host}]:{settings.port[0]}" if ":" in host else f"http://{host}:{settings.port[0]}"
