"""`spoolhouse parked`: what processors gave up on, and what is to become of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from api.connecting import redis_url
from api.showing import AS_JSON, console, plain, print_json, run, table
from streams.errors import NotFoundError
from streams.inspecting import group_partitions
from streams.log import Log, open_log
from streams.retries import Parked, Retries
from streams.settings import load_settings

PLACE = click.argument("places", nargs=-1, metavar="[GROUP] [PARTITION/POSITION]…")


@click.group()
def parked() -> None:
    """What processors gave up on: look at it, have it tried again, or let it go.

    A parked entry holds up everything later of its video in that group.
    """


@parked.command("list")
@AS_JSON
def list_(*, as_json: bool) -> None:
    """List parked entries."""
    found = run(_list())
    if as_json:
        print_json(found)
        return
    shown = table("group", "entry", "event", "subject", "attempts", "since", "reason", right=("attempts",))
    for one in found:
        shown.add_row(
            *map(plain, (one.group, _place(one), one.type, one.subject, one.attempts, one.since[:19], one.reason))
        )
    console().print(shown if found else "Nothing is parked.")


@parked.command()
@PLACE
def show(places: tuple[str, ...]) -> None:
    """Show parked entries whole: why they were parked, and every field."""
    for one, fields in run(_show(places)):
        shown = table("", "")
        shown.show_header = False
        for name, value in {
            "group": one.group, "entry": _place(one), "reason": one.reason, "attempts": one.attempts,
            "parked": one.since, **fields,
        }.items():  # fmt: skip
            shown.add_row(plain(name, "bold"), plain(value))
        console().print(shown, "")


@parked.command()
@PLACE
@click.option("--all", "everything", is_flag=True, help="All that is parked (in the group, where one is named).")
def replay(places: tuple[str, ...], *, everything: bool) -> None:
    """Have parked entries tried again, and then what waits behind them."""
    for one in run(_replay(places, everything=everything)):
        click.echo(f"{one.group} {_place(one)} is tried again")


@parked.command()
@PLACE
@click.option("--all", "everything", is_flag=True, help="All that is parked (in the group, where one is named).")
@click.confirmation_option("--yes", prompt="Give these entries up for good?")
def discard(places: tuple[str, ...], *, everything: bool) -> None:
    """Give parked entries up for their group; what waits behind them goes on."""
    for one in run(_discard(places, everything=everything)):
        click.echo(f"{one.group} {_place(one)} is discarded")


async def _list() -> list[Parked]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        return await _all(log)


async def _show(places: Sequence[str]) -> list[tuple[Parked, dict[str, str]]]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        chosen = await _chosen(log, places, everything=False)
        return [(one, await _retries(log, one).body(one)) for one in chosen]


async def _replay(places: Sequence[str], *, everything: bool) -> list[Parked]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        chosen = await _chosen(log, places, everything=everything)
        for one in chosen:
            await _retries(log, one).replay(one)
        return chosen


async def _discard(places: Sequence[str], *, everything: bool) -> list[Parked]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        chosen = await _chosen(log, places, everything=everything)
        for one in chosen:
            await _retries(log, one).discard(one)
        return chosen


async def _all(log: Log) -> list[Parked]:
    """Everything that is parked, by group, partition and position."""
    found: list[Parked] = []
    for row in await group_partitions(log):
        if row.parked:
            found += await Retries(log.redis, log.keys, row.group).parked(row.partition)
    return found


async def _chosen(log: Log, places: Sequence[str], *, everything: bool) -> list[Parked]:
    """The parked entries that the arguments name: a group, places, or both."""
    found = await _all(log)
    groups = {place for place in places if "/" not in place}
    named = {place for place in places if "/" in place}
    if not named and not everything:
        raise click.UsageError(
            "Name the entries as `parked list` shows them, e.g. probe 07/123 (replay and discard also take --all)."
        )
    chosen = [one for one in found if (not groups or one.group in groups) and (not named or _place(one) in named)]
    if missing := named - {_place(one) for one in chosen}:
        raise NotFoundError(
            f"Nothing is parked at {', '.join(sorted(missing))}: `spoolhouse parked list` shows what is."
        )
    return chosen


def _retries(log: Log, one: Parked) -> Retries:
    return Retries(log.redis, log.keys, one.group)


def _place(one: Parked) -> Any:
    return f"{one.partition:02d}/{one.pos}"
