"""How the command line shows things: tables for people, JSON for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's asynchronous part; Ctrl-C ends it without a traceback."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None


def serve(work: Coroutine[Any, Any, None]) -> None:
    """Run a process that serves; on uvloop where that is installed, which halves its share of the work."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)


def console() -> Console:
    """Where tables go. As wide as the terminal; in a pipe as wide as what is in it."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=240)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the named columns are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def plain(value: object, style: str = "") -> Text:
    """Text as it is: nothing in it is taken for markup."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() else "�" for c in text), style=style)


def print_json(value: object) -> None:
    """JSON for programs."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def many(count: int, what: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{count:d} {what}" if count == 1 else f"{count:d} {what}s"


def size(count: int | None) -> str:
    """`15.50 MB`."""
    if count is None:
        return ""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.2f} {_UNITS[unit]}" if unit else f"{count} bytes"


def length(seconds: float | None) -> str:
    """`1:02:03`."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def when(at: datetime | None) -> str:
    """Local time, to the second."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(at: datetime | None) -> str:
    """How long since: `12 s`, `3 min`, `5 h`, `2 d`."""
    if at is None:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} d"


def picture(video: Mapping[str, Any]) -> str:
    """A video's picture in short: `640×272 h264`, or that it is damaged."""
    if video["width"]:
        return f"{video['width']}×{video['height']} {video['video_codec'] or ''}".rstrip()
    return "damaged" if video["damaged"] or video["probe_error"] else ""


def copies(video: Mapping[str, Any]) -> Text:
    """A video's copies in short: `s3 verified drive 40 %`."""
    shown = Text()
    for copy in video["replicas"]:
        word, style = _COPY_WORDS[copy["state"]]
        if copy["state"] == "started":
            word = f"{copy['progress']} %"
        elif copy["state"] == "complete" and copy["verified"]:
            word = "verified"
        shown.append(f"{', ' if shown else ''}{copy['replica']} ").append(word, style)
    return shown


_COPY_WORDS = {
    "started": ("", "yellow"),
    "complete": ("copied", "green"),
    "failed": ("failed", "red"),
    "damaged": ("damaged", "red"),
    "abandoned": ("given up", "red"),
    "outdated": ("outdated", "yellow"),
}
