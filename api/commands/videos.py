"""`spoolhouse list` and `spoolhouse show`: what is there, and what happened to one video."""

from __future__ import annotations

from typing import Any

import click

from api.bootstrap import open_reading
from api.handlers.videos import DOORS, SORTS, STATES, as_happening, as_video
from api.showing import console, length, plain, print_json, run, size, table, when
from projections.queries import Filters, Video
from streams.errors import NotFoundError, RejectedError
from streams.settings import load_settings

AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.command("list")
@click.option("--door", type=click.Choice(DOORS), default="all", show_default=True, help="How it came in.")
@click.option("--state", type=click.Choice(STATES), default="present", show_default=True)
@click.option("--search", metavar="TEXT", help="Part of the name.")
@click.option("--sort", type=click.Choice(SORTS), default="created", show_default=True)
@click.option("--reverse", is_flag=True, help="Smallest, or oldest, first.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@AS_JSON
def list_(door: str, state: str, search: str | None, sort: Any, limit: int, *, reverse: bool, as_json: bool) -> None:
    """List videos, the newest first."""
    filters = Filters(door=None if door == "all" else door, state=None if state == "all" else state, text=search)
    videos, more = run(_list(filters, sort, limit, descending=not reverse))
    if as_json:
        print_json([as_video(video) for video in videos])
        return
    shown = table("id", "door", "name", "size", "length", "picture", "came in", right=("size", "length"))
    for video in videos:
        shown.add_row(
            plain(video["id"][:8], "cyan"),
            plain(video["door"]),
            plain(video["relative"] or video["filename"], "" if video["state"] == "present" else "strike"),
            plain(size(video["size"])),
            plain(length(video["duration"])),
            plain(_picture(video)),
            plain(when(video["created"])),
        )
    console().print(shown if videos else "No videos.")
    if more:
        console().print(f"There are more: --limit {limit * 2} shows twice as many.")


@click.command()
@click.argument("video")
@AS_JSON
def show(video: str, *, as_json: bool) -> None:
    """Show one video and everything that happened to it. The first characters of its id will do."""
    found, history = run(_show(video))
    if as_json:
        print_json({**as_video(found), "events": [as_happening(row) for row in history]})
        return
    facts = table("", "")
    facts.show_header = False
    for name, value in _facts(found):
        if value not in (None, "", False):
            facts.add_row(plain(name, "bold"), plain(value))
    happened = table("ver", "time", "what happened", "event", "by", "partition/position", right=("ver",))
    for row in history:
        bad = "Failed" in row["type"] or "Parked" in row["type"]
        happened.add_row(
            plain(row["ver"]),
            plain(when(row["time"])),
            plain(row["summary"], "red" if bad else ""),
            plain(row["type"], "dim"),
            plain(row["source"], "dim"),
            plain(f"{row['partition']:02d}/{row['pos']}", "dim"),
        )
    console().print(facts, "", happened)


async def _list(filters: Filters, sort: Any, limit: int, *, descending: bool) -> tuple[list[Video], bool]:
    videos: list[Video] = []
    async with open_reading(load_settings()) as reading:
        cursor: str | None = None
        while True:
            page = await reading.catalogue.list(
                filters, sort=sort, descending=descending, cursor=cursor, limit=min(500, limit - len(videos))
            )
            videos += page.videos
            if (cursor := page.cursor) is None or len(videos) >= limit:
                return videos, cursor is not None


async def _show(video: str) -> tuple[Video, list[dict[str, Any]]]:
    async with open_reading(load_settings()) as reading:
        matches = await reading.catalogue.ids_beginning(video.lower(), 3)
        if not matches:
            raise NotFoundError(f"There is no video whose id begins with {video!r}: `spoolhouse list` shows them.")
        if len(matches) > 1:
            raise RejectedError(400, f"More than one id begins with {video!r}: {', '.join(matches)} … Give more of it.")
        found = await reading.catalogue.get(matches[0])
        if found is None:
            raise NotFoundError(f"There is no video {matches[0]}.")
        return found, await reading.history(matches[0])


def _picture(video: Video) -> str:
    if video["width"]:
        return f"{video['width']}×{video['height']} {video['video_codec'] or ''}".rstrip()
    return "damaged" if video["damaged"] or video["probe_error"] else ""


def _facts(video: Video) -> list[tuple[str, Any]]:
    exact = "" if video["size"] is None else f"{size(video['size'])} ({video['size']} bytes)"
    return [
        ("id", video["id"]),
        ("name", video["filename"]),
        ("path", video["path"]),
        ("came in", f"{when(video['created'])} by {video['door']}"),
        ("state", video["state"]),
        ("number", video["number"]),
        ("size", exact),
        ("length", length(video["duration"])),
        ("picture", _picture(video)),
        ("sound", video["audio_codec"]),
        ("label", video["label"]),
        ("sha256", video["sha256"]),
        ("damaged", video["damaged"] or video["probe_error"]),
        ("parked", video["parked"]),
        ("same content as", video["duplicate_of"]),
    ]
