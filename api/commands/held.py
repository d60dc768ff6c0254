"""`spoolhouse held`: watched folders whose files vanished in a way that looks like a lost mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from api.connecting import redis_url
from api.showing import AS_JSON, ago, console, plain, print_json, run, table
from processors.watching.holds import HeldRoot, confirm_hold, held_roots, reject_hold
from streams.log import Log, open_log
from streams.paths import escape_path
from streams.settings import load_settings

FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def held() -> None:
    """Watched folders that are held: so many files are gone, are they deleted or is the disk?

    Nothing is removed from the catalogue until the files are back or someone answers.
    """


@held.command("list")
@AS_JSON
def list_(*, as_json: bool) -> None:
    """List folders that wait for an answer."""
    found = run(_list())
    if as_json:
        print_json(found)
        return
    shown = table("folder", "missing", "since", "reason", right=("missing",))
    for one in found:
        shown.add_row(*map(plain, (escape_path(one.root), one.missing, f"{ago(one.since)} ago", one.reason)))
    console().print(shown if found else "No folder is held.")


@held.command()
@FOLDER
def confirm(folder: Path) -> None:
    """The files are really deleted: take them out of the catalogue."""
    answered = run(_answer(folder, confirm_hold))
    click.echo(f"{escape_path(answered.root)}: {answered.missing} files count as removed")


@held.command()
@FOLDER
def reject(folder: Path) -> None:
    """The files are elsewhere for now: keep them in the catalogue."""
    answered = run(_answer(folder, reject_hold))
    click.echo(f"{escape_path(answered.root)}: {answered.missing} files are kept")


async def _list() -> list[HeldRoot]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        return await held_roots(log, [str(root) for root in settings.watch_roots])


async def _answer(folder: Path, answer: Callable[[Log, str], Awaitable[HeldRoot]]) -> HeldRoot:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        return await answer(log, str(folder.expanduser().absolute()))
