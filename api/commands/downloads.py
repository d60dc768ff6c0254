"""`spoolhouse downloads`: what is queued, fetched and failed; and what is to become of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_args

import click
import orjson

from api.bootstrap import Queueing, open_queueing
from api.download_objects import as_download
from api.download_standings import DownloadStandings
from api.showing import AS_JSON, console, plain, print_json, run, size, table, when
from processors.download_door import CurrentConfig, DownloadDoor
from streams.download_config import DownloadConfig
from streams.downloads import Download, DownloadStatus
from streams.errors import NotFoundError, RejectedError
from streams.settings import load_settings

STATUSES = get_args(DownloadStatus)
STYLES: dict[str, str] = {"Pending": "", "Processing": "yellow", "Downloaded": "green", "Error": "red"}

NUMBERS = click.argument("numbers", nargs=-1, required=True, type=click.IntRange(1), metavar="ID…")


@click.group(invoke_without_command=True)
@click.option("--status", type=click.Choice(STATUSES, case_sensitive=False), help="Only what stands so.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="The newest so many.")
@AS_JSON
@click.pass_context
def downloads(ctx: click.Context, status: str | None, limit: int, *, as_json: bool) -> None:
    """List downloads, oldest first; cancel, refresh or delete them; say how they are made."""
    ctx.obj = (status, limit, as_json)
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@downloads.command("list")
@click.pass_obj
def list_(wanted: tuple[DownloadStatus | None, int, bool]) -> None:
    """List them. This is what `spoolhouse downloads` does by itself."""
    status, limit, as_json = wanted
    found, more = run(_list(status, limit))
    if as_json:
        print_json([as_download(one, None) for one in found])
        return
    shown = table("id", "status", "title", "size", "folder", "asked for", "", right=("id", "size"))
    for one in found:
        title = one.title or one.url
        shown.add_row(
            plain(one.number, "cyan"),
            plain(one.status, STYLES[one.status]),
            plain(f"{title} (list of {len(one.numbers)})" if one.numbers else title),
            plain(size(one.size)),
            plain(one.directory),
            plain(when(one.requested)),
            plain(one.message),
        )
    console().print(shown if found else "No downloads.")
    if more:
        console().print(f"There are more before these: --limit {limit * 2} shows twice as many.")


async def _list(status: DownloadStatus | None, limit: int) -> tuple[list[Download], bool]:
    """The newest of them, oldest first, and whether there are more."""
    found: list[Download] = []
    more = False
    async with open_queueing(load_settings()) as queueing:
        async for one in DownloadStandings(queueing.log, queueing.catalogue).listed(status):
            found.append(one)
            if len(found) >= 2 * limit:
                found, more = found[-limit:], True
    return found[-limit:], more or len(found) > limit


# ---------------------------------------------------------------- what is to become of them


@downloads.command()
@NUMBERS
def cancel(numbers: tuple[int, ...]) -> None:
    """Stop downloads; of a list, everything of it that is still to be done."""
    _each(numbers, lambda door, number: door.cancel(number), "is cancelled")


@downloads.command()
@NUMBERS
def refresh(numbers: tuple[int, ...]) -> None:
    """Queue downloads again, under their ids."""
    _each(numbers, lambda door, number: door.refresh(number), "is in the queue again")


@downloads.command()
@NUMBERS
@click.option("--keep-file", is_flag=True, help="What was fetched stays where it lies.")
def delete(numbers: tuple[int, ...], *, keep_file: bool) -> None:
    """Take downloads off the list, with their files. The worker removes those."""
    words = "is off the list; its file stays" if keep_file else "is off the list; its file goes with it"
    _each(numbers, lambda door, number: door.delete(number, keep_file=keep_file), words)


def _each(numbers: Sequence[int], work: Callable[[DownloadDoor, int], Awaitable[Download]], words: str) -> None:
    """Do it to each of them. Exit status 1 where one refused."""

    async def all_of_them(queueing: Queueing) -> bool:
        well = True
        for number in numbers:
            try:
                await work(queueing.downloads, number)
            except (NotFoundError, RejectedError) as error:
                click.echo(f"{number}: {error}", err=True)
                well = False
            else:
                click.echo(f"{number} {words}")
        return well

    async def with_queue() -> bool:
        async with open_queueing(load_settings()) as queueing:
            return await all_of_them(queueing)

    if not run(with_queue()):
        raise click.exceptions.Exit(1)


# ---------------------------------------------------------------- how they are made


@downloads.command()
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]…")
@AS_JSON
def config(changes: tuple[str, ...], *, as_json: bool) -> None:
    """Show how downloads are made, or change it: `max_height=1080 subtitles=en,de rate_limit=null`."""
    patch = dict(_change(one) for one in changes)
    now = run(_config(patch))
    told = now.config.model_dump(mode="json")
    if as_json:
        print_json(told | {"preferences": dict(now.preferences)})
        return
    shown = table("name", "value")
    for name, value in told.items():
        shown.add_row(plain(name, "bold"), plain("" if value is None else orjson.dumps(value).decode().strip('"')))
    console().print(shown)


def _change(given: str) -> tuple[str, Any]:
    """A name, and a value as JSON, or text that is none; what is a list may be written with commas."""
    name, equals, value = given.partition("=")
    if not equals or name not in DownloadConfig.model_fields:
        known = ", ".join(sorted(DownloadConfig.model_fields))
        raise click.UsageError(f"{given!r} is not NAME=VALUE with one of these names: {known}.")
    try:
        return name, orjson.loads(value)
    except ValueError:
        listed = name == "subtitles"
        return name, [part.strip() for part in value.split(",") if part.strip()] if listed else value


async def _config(patch: dict[str, Any]) -> CurrentConfig:
    async with open_queueing(load_settings()) as queueing:
        return await (queueing.downloads.change_config(patch) if patch else queueing.downloads.config())
