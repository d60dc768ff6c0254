"""`spoolhouse rebuild`: fold the log anew into the tables, beside the live ones, then swap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from api.bootstrap import open_rebuilding
from api.showing import run
from streams.errors import NotFoundError
from streams.settings import load_settings


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--compare", is_flag=True, help="Say what differs between the live tables and the rebuilt ones.")
def rebuild(names: tuple[str, ...], *, compare: bool) -> None:
    """Build projections anew from the log (all, or those named) and swap them in.

    The live tables go on serving meanwhile.
    """
    differing = run(_rebuild(names, compare=compare))
    if differing:
        raise click.exceptions.Exit(2)


async def _rebuild(names: Sequence[str], *, compare: bool) -> int:
    """Rebuild one after another; how many differed from what was live."""
    differing = 0
    async with open_rebuilding(load_settings()) as runner:
        if unknown := [name for name in names if name not in runner.followers]:
            raise NotFoundError(
                f"There is no projection {', '.join(unknown)}; there are {', '.join(sorted(runner.followers))}."
            )
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            for name in names or sorted(runner.followers):
                task = progress.add_task(f"rebuilding {name}", total=None)
                began = time.monotonic()
                differences = (await runner.rebuild([name], compare=compare))[name]
                progress.remove_task(task)
                click.echo(
                    f"{name} is rebuilt ({time.monotonic() - began:.1f} s)" + _words(differences, compare=compare)
                )
                for line in differences:
                    click.echo(f"  {line}")
                differing += bool(differences)
                await asyncio.sleep(0)
    return differing


def _words(differences: Sequence[str], *, compare: bool) -> str:
    if not compare:
        return ""
    return f"; {len(differences)} rows differed" if differences else "; equal, row for row"
