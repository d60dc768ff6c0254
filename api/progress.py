"""How far long work is: a bar on a terminal, else a line now and then. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.showing import plain, size

LINE_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


@dataclass(slots=True)
class Shown:
    """What shows it. `advance` by bytes or things; `say` something beside it."""

    advance: Callable[[int], None]
    say: Callable[[str], None]


@contextmanager
def progress(name: str, total: int | None, *, in_bytes: bool) -> Iterator[Shown]:
    """Show work of `total` bytes (or things; None: no one knows how many) until the body ends."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(plain(text))

    if not console.is_terminal:
        lines = _Lines(name, total, in_bytes, say)
        yield Shown(lines.advance, say)
        return
    numbers: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if in_bytes:
        numbers = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    columns = (TextColumn("{task.fields[name]}", markup=False), BarColumn(), *numbers, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", name=plain(name).plain, total=total)
        yield Shown(lambda more: bars.advance(task, more), say)


@dataclass(slots=True)
class _Lines:
    name: str
    total: int | None
    in_bytes: bool
    say: Callable[[str], None]
    done: int = 0
    said: float = field(default_factory=time.monotonic)

    def advance(self, more: int) -> None:
        """Count, and say so when some time has passed since the last line."""
        self.done += more
        if time.monotonic() - self.said < LINE_EVERY:
            return
        self.said = time.monotonic()
        show = size if self.in_bytes else str
        self.say(f"{self.name}: {show(self.done)}" + (f" of {show(self.total)}" if self.total is not None else ""))
