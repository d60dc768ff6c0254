"""`spoolhouse show`: one video, and what happened to it."""

from __future__ import annotations

from typing import Any

import click

from api.bootstrap import open_reading
from api.handlers.videos import as_happening, as_video
from api.showing import AS_JSON, console, length, picture, plain, print_json, run, size, table, when
from projections.copy_queries import Copy
from projections.queries import Video
from streams.errors import NotFoundError, RejectedError
from streams.settings import load_settings


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
        bad = any(word in row["type"] for word in ("Failed", "Parked", "Damaged", "Abandoned"))
        happened.add_row(
            plain(row["ver"] if row["events"] == 1 else f"{row['ver']}–{row['last_ver']}"),
            plain(when(row["last_time"])),
            plain(row["summary"], "red" if bad else ""),
            plain(row["type"], "dim"),
            plain(row["source"], "dim"),
            plain(f"{row['partition']:02d}/{row['pos']}", "dim"),
        )
    console().print(facts, "", happened)


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
        ("picture", picture(video)),
        ("sound", video["audio_codec"]),
        ("label", video["label"]),
        ("sha256", video["sha256"]),
        ("damaged", video["damaged"] or video["probe_error"]),
        ("parked", video["parked"]),
        ("same content as", video["duplicate_of"]),
        *((f"copy ({copy['replica']})", _copy(copy)) for copy in video["replicas"]),
    ]


def _copy(copy: Copy) -> str:
    """What is known of one copy, in words."""
    if copy["state"] == "started":
        words = [f"under way, {copy['progress']} %"]
    elif copy["state"] == "complete":
        words = [f"complete since {when(copy['completed'])}"]
    else:
        words = [copy["state"]]
    if copy["state"] == "outdated":
        words.append("it is of content that was replaced since")
    if copy["verified"]:
        words.append(f"verified {when(copy['verified'])}{', every byte' if copy['verified_deep'] else ''}")
    words += [text for text in (copy["fault"], copy["link"] or copy["store"], copy["target"]) if text]
    return "; ".join(words)
