"""`spoolhouse subscriptions`: channels, playlists and feeds that are looked at again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from api.bootstrap import open_queueing
from api.handlers.subscriptions import as_subscription
from api.showing import AS_JSON, console, plain, print_json, run, table, when
from processors.subscription_requests import SubscriptionRequests
from streams.errors import NotFoundError, RejectedError
from streams.settings import load_settings
from streams.subscriptions import Subscription

NUMBERS = click.argument("numbers", nargs=-1, required=True, type=click.IntRange(1), metavar="ID…")


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def subscriptions(ctx: click.Context, *, as_json: bool) -> None:
    """List subscriptions; begin, pause, resume, check or end them."""
    if ctx.invoked_subcommand is not None:
        return
    found = run(_list())
    if as_json:
        print_json([as_subscription(one) for one in found])
        return
    shown = table("id", "title", "every", "folder", "found", "next look", "", right=("id", "found"))
    for one in found:
        shown.add_row(
            plain(one.number, "cyan"),
            plain(one.title or one.url),
            plain(f"{one.interval:g} s"),
            plain(one.directory),
            plain(one.found),
            plain("paused" if one.paused else when(one.next_look)),
            plain(one.error, "red"),
        )
    console().print(shown if found else "No subscriptions.")


@subscriptions.command()
@click.argument("url")
@click.option("--interval", type=float, metavar="S", help="Seconds between two looks.")
@click.option("--filter", "pattern", metavar="REGEX", help="Only entries whose titles contain a match.")
@click.option("--dir", "directory", metavar="D", help="Folder below the media root.")
@click.option("--backlog", type=int, default=0, show_default=True, help="So many of what is there already, too.")
@click.option("--audio-only", is_flag=True, help="The sound alone.")
@click.option("--max-height", type=int, metavar="N", help="The quality ceiling: rows of the picture.")
def add(
    url: str,
    interval: float | None,
    pattern: str | None,
    directory: str | None,
    backlog: int,
    max_height: int | None,
    *,
    audio_only: bool,
) -> None:
    """Subscribe to a channel, playlist or feed: what is new in it is fetched."""
    options = {"audio_only": audio_only or None, "max_height": max_height}
    wish: dict[str, Any] = {"url": url, "interval": interval, "filter": pattern, "directory": directory}
    wish |= {"backlog": backlog, "options": {name: value for name, value in options.items() if value is not None}}
    begun = run(_create({name: value for name, value in wish.items() if value is not None}))
    click.echo(f"{begun.number} is looked at every {begun.interval:g} seconds: {begun.url}")


@subscriptions.command()
@NUMBERS
def pause(numbers: tuple[int, ...]) -> None:
    """Look at them no more for now."""
    _each(numbers, lambda asked, number: asked.change(number, {"paused": True}), "is paused")


@subscriptions.command()
@NUMBERS
def resume(numbers: tuple[int, ...]) -> None:
    """Look at paused ones again."""
    _each(numbers, lambda asked, number: asked.change(number, {"paused": False}), "goes on")


@subscriptions.command()
@NUMBERS
def check(numbers: tuple[int, ...]) -> None:
    """Look at them now."""
    _each(numbers, lambda asked, number: asked.look(number), "is looked at")


@subscriptions.command()
@NUMBERS
def end(numbers: tuple[int, ...]) -> None:
    """End subscriptions. What they fetched stays."""
    _each(numbers, lambda asked, number: asked.remove(number), "has ended")


async def _list() -> list[Subscription]:
    async with open_queueing(load_settings()) as queueing:
        return await queueing.catalogue.subscriptions()


async def _create(wish: dict[str, Any]) -> Subscription:
    async with open_queueing(load_settings()) as queueing:
        return await queueing.subscriptions.create(wish)


def _each(numbers: Sequence[int], work: Callable[[SubscriptionRequests, int], Awaitable[object]], words: str) -> None:
    """Do it to each of them. Exit status 1 where one refused."""

    async def all_of_them() -> bool:
        well = True
        async with open_queueing(load_settings()) as queueing:
            for number in numbers:
                try:
                    await work(queueing.subscriptions, number)
                except (NotFoundError, RejectedError) as error:
                    click.echo(f"{number}: {error}", err=True)
                    well = False
                else:
                    click.echo(f"{number} {words}")
        return well

    if not run(all_of_them()):
        raise click.exceptions.Exit(1)
