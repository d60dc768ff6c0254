"""`spoolhouse retention`: give up local copies of old videos that are whole elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from api.bootstrap import open_retention
from api.showing import AS_JSON, plain, print_json, run, size
from processors.retention import Outcome
from streams.errors import SpoolhouseError
from streams.paths import escape_path
from streams.settings import Settings, load_settings


@click.command()
@click.option(
    "--days", type=click.FloatRange(min=0), metavar="DAYS", help="How old a video must be.  [default: DAYS_TO_KEEP, 30]"
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen: nothing is changed, not even the log.")
@click.option("--cleanup", is_flag=True, hidden=True, help="Say it as the old clean-up script did.")
@AS_JSON
def retention(days: float | None, *, dry_run: bool, cleanup: bool, as_json: bool) -> None:
    """Delete local copies of old videos, where every copy elsewhere is whole.

    Each configured place (object store, Google Drive) is asked for its copy right before; where one
    lacks it, or cannot be asked, the file stays. The catalogue keeps the videos as "offloaded", and
    `spoolhouse restore` brings them back. Watched originals stay, but for those in folders named in
    SPOOLHOUSE_RETENTION_WATCH. Each file is named, with the reason.
    """
    settings = load_settings()
    days = settings.days_to_keep if days is None else days
    tell = (lambda _: None) if as_json else _as_cleanup if cleanup else _tell
    found, failure = run(_retention(settings, days, tell, dry_run=dry_run))
    gone = [one for one in found if one.verdict != "kept"]
    freed = sum(one.freed for one in gone)
    if as_json:
        print_json(
            {
                "days": days,
                "dry_run": dry_run,
                "files": [_as_json(one) for one in found],
                "deleted": 0 if dry_run else len(gone),
                "would_delete": len(gone) if dry_run else 0,
                "kept": len(found) - len(gone),
                "freed_bytes": freed,
                "error": None if failure is None else str(failure),
            }
        )
    elif not found and failure is None:
        click.echo(f"No video came in more than {days:g} days ago.")
    else:
        did = "would be deleted" if dry_run else "deleted"
        click.echo(f"{len(gone)} {did} ({size(freed)}), {len(found) - len(gone)} kept")
    if failure is not None:
        raise SpoolhouseError(f"Retention ended early, and nothing more was deleted: {failure}") from failure


async def _retention(
    settings: Settings, days: float, tell: Callable[[Outcome], None], *, dry_run: bool
) -> tuple[list[Outcome], SpoolhouseError | None]:
    """Every outcome, and what ended it early where something did."""
    found: list[Outcome] = []
    async with open_retention(settings) as retention:
        if reason := retention.misnamed():
            click.echo(f"Note: {reason}.", err=True)
        try:
            async for one in retention.look(days, dry_run=dry_run):
                tell(one)
                found.append(one)
        except SpoolhouseError as error:
            return found, error
    return found, None


def _tell(one: Outcome) -> None:
    """A line for each file as soon as it is decided: a long run is not silent."""
    amount = size(one.freed if one.verdict != "kept" else one.size)
    click.echo(plain(f"{one.verdict:<12}  {amount:>12}  {escape_path(one.path)}  ({one.reason})").plain)


def _as_cleanup(one: Outcome) -> None:
    name = plain(escape_path(os.path.basename(one.path))).plain
    if one.verdict == "kept":
        click.echo(plain(f"Keeping old video: {name} ({one.reason})").plain)
    else:
        click.echo(f"{'Would delete' if one.verdict == 'would delete' else 'Deleting'} old video: {name}")


def _as_json(one: Outcome) -> dict[str, Any]:
    return {
        "id": one.video,
        "path": escape_path(one.path),
        "size_bytes": one.size,
        "verdict": one.verdict,
        "reason": one.reason,
        "freed_bytes": one.freed,
    }
