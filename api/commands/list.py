"""`spoolhouse list`: what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
from rich.text import Text

from api.bootstrap import open_reading
from api.handlers.videos import DOORS, REPLICAS, SORTS, STATES, as_video
from api.showing import AS_JSON, console, copies, length, picture, plain, print_json, run, size, table, when
from projections.queries import Filters, Video
from streams.settings import load_settings


@click.command("list")
@click.option("--door", type=click.Choice(DOORS), default="all", show_default=True, help="How it came in.")
@click.option("--state", type=click.Choice(STATES), default="present", show_default=True)
@click.option("--replica", type=click.Choice(REPLICAS), default="any", help="With --copied: where.")
@click.option("--copied/--not-copied", default=None, help="Only what has (or lacks) a whole copy there.")
@click.option("--search", metavar="TEXT", help="Part of the name.")
@click.option("--sort", type=click.Choice(SORTS), default="created", show_default=True)
@click.option("--reverse", is_flag=True, help="Smallest, or oldest, first.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@AS_JSON
def list_(
    door: str,
    state: str,
    replica: str,
    search: str | None,
    sort: Any,
    limit: int,
    *,
    copied: bool | None,
    reverse: bool,
    as_json: bool,
) -> None:
    """List videos, the newest first."""
    filters = Filters(
        door=None if door == "all" else door,
        state=None if state == "all" else state,
        replica=None if replica == "any" else replica,
        copied=copied,
        text=search,
    )
    videos, more, others = run(_list(filters, sort, limit, descending=not reverse))
    if as_json:
        print_json([as_video(video) for video in videos])
        return
    shown = table("id", "door", "name", "size", "length", "picture", "copies", "came in", right=("size", "length"))
    for video in videos:
        shown.add_row(
            plain(video["id"][:8], "cyan"),
            plain(video["door"]),
            _name(video),
            plain(size(video["size"])),
            plain(length(video["duration"])),
            plain(picture(video)),
            copies(video),
            plain(when(video["created"])),
        )
    console().print(shown if videos else "No videos.")
    if more:
        console().print(f"There are more: --limit {limit * 2} shows twice as many.")
    if others:
        console().print("Offloaded ones, whose copies are elsewhere only: --state offloaded.")


_STYLES = {"present": "", "offloaded": "italic"}


def _name(video: Video) -> Text:
    """Its name, and its state where that is not the usual one."""
    state = video["state"]
    name = plain(video["relative"] or video["filename"], _STYLES.get(state, "strike"))
    return name if state == "present" else Text.assemble(name, f" ({state})")


async def _list(filters: Filters, sort: Any, limit: int, *, descending: bool) -> tuple[list[Video], bool, bool]:
    """The videos, whether there are more of them, and whether offloaded ones were left out."""
    videos: list[Video] = []
    async with open_reading(load_settings()) as reading:
        cursor: str | None = None
        while True:
            page = await reading.catalogue.list(
                filters, sort=sort, descending=descending, cursor=cursor, limit=min(500, limit - len(videos))
            )
            videos += page.videos
            if (cursor := page.cursor) is None or len(videos) >= limit:
                break
        others = filters.state == "present" and bool(
            (await reading.catalogue.list(replace(filters, state="offloaded"), limit=1)).videos
        )
        return videos, cursor is not None, others
