"""`spoolhouse rebuild`: fold the log anew into the tables, beside the live ones, then swap."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console

from api.bootstrap import open_rebuilding
from api.rebuilding import Line, ask
from api.rebuilding import rebuild as rebuilt
from api.showing import run
from streams.health import accounts
from streams.settings import load_settings


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--compare", is_flag=True, help="Say what differs between the live tables and the rebuilt ones.")
def rebuild(names: tuple[str, ...], *, compare: bool) -> None:
    """Build projections anew from the log (all, or those named) and swap them in.

    The live tables go on serving meanwhile. A running worker does it; without one, this command does.
    """
    if run(_rebuild(names, compare=compare)):
        raise click.exceptions.Exit(2)


async def _rebuild(names: Sequence[str], *, compare: bool) -> int:
    """Rebuild one after another; how many differed from what was live."""
    differing = 0
    async with open_rebuilding(load_settings()) as (log, runner):
        at_work = bool(await accounts(log))
        lines = ask(log, names, compare=compare) if at_work else rebuilt(runner, names, compare=compare)
        with Console(stderr=True).status("rebuilding"):
            async for line in lines:
                click.echo(f"{line['name']} is rebuilt ({line['seconds']:.1f} s){_words(line)}")
                for difference in line["differences"]:
                    click.echo(f"  {difference}")
                differing += bool(line["differences"])
    return differing


def _words(line: Line) -> str:
    if not line["compared"]:
        return ""
    return f"; {len(line['differences'])} rows differed" if line["differences"] else "; equal, row for row"
