"""`spoolhouse get`: download from URLs."""

from __future__ import annotations

from typing import Any

import click

from api.bootstrap import open_queueing
from api.download_following import follow
from api.download_objects import as_download
from api.showing import AS_JSON, print_json, run
from streams.download_config import DownloadOptions
from streams.downloads import Download
from streams.errors import RejectedError
from streams.settings import load_settings


@click.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL…")
@click.option(
    "--dir", "directory", default="", metavar="D", help="Folder below the media root; made where it is missing."
)
@click.option("--format", "selector", metavar="F", help="A yt-dlp format selector, e.g. 'bv*+ba/b'.")
@click.option("--audio-only", is_flag=True, help="The sound alone.")
@click.option("--max-height", type=int, metavar="N", help="The quality ceiling: rows of the picture.")
@click.option("--subtitles", metavar="LANGS", help="Languages of subtitles, e.g. en,de.")
@click.option("--limit", type=int, metavar="N", help="Entries of a playlist or channel that are taken.")
@click.option(
    "--wait", is_flag=True, help="Show how far they are, and end when they are there. Exit status 1 if one failed."
)
@AS_JSON
def get(
    urls: tuple[str, ...],
    directory: str,
    selector: str | None,
    max_height: int | None,
    subtitles: str | None,
    limit: int | None,
    *,
    audio_only: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Download videos, playlists or channels into the media root.

    They are queued and fetched by the worker, in their order. What is not said here is as `spoolhouse downloads
    config` shows.
    """
    options = {
        "format": selector,
        "audio_only": audio_only or None,
        "max_height": max_height,
        "subtitles": None if subtitles is None else [one.strip() for one in subtitles.split(",") if one.strip()],
        "limit": limit,
    }
    assert options.keys() <= DownloadOptions.model_fields.keys()
    given = {name: value for name, value in options.items() if value is not None}
    if not run(_get(urls, directory, given, wait=wait, as_json=as_json)):
        raise click.exceptions.Exit(1)


async def _get(urls: tuple[str, ...], directory: str, options: dict[str, Any], *, wait: bool, as_json: bool) -> bool:
    """Queue them all, and follow them where that is wanted; whether all went well."""
    well, asked = True, list[Download]()
    async with open_queueing(load_settings()) as queueing:
        for url in urls:
            try:
                asked.append(await queueing.downloads.request(url, directory, options))
            except RejectedError as error:
                click.echo(f"{url}: {error}", err=True)
                well = False
        if wait:
            asked = await follow(queueing.log, asked, quiet=as_json)
            well = well and all(one.status == "Downloaded" for one in asked)
    if as_json:
        print_json([as_download(one, None) for one in asked])
    elif not wait:
        for one in asked:
            click.echo(f"{one.number} is in the queue: {one.url}")
    return well
