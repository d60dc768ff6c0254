"""Bars for many things that move at once: on a terminal; else a line for each change. Always on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.showing import plain

NAME = 40
"""Characters of a name beside its bar."""


class Bars:
    """One bar for each number."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console, self._progress = console, progress
        self._tasks: dict[int, TaskID] = {}

    def show(self, number: int, name: str, words: str) -> None:
        """It stands so; a bar from now on."""
        if self._progress is None:
            self._console.print(plain(f"{number} {name}: {words}"))
            return
        shown = plain(name).plain
        shown = shown if len(shown) <= NAME else shown[: NAME - 1] + "…"
        if number not in self._tasks:
            self._tasks[number] = self._progress.add_task("", name=shown, words="", total=None)
        self._progress.update(self._tasks[number], name=shown, words=plain(words).plain[:NAME])

    def move(self, number: int, come: int | None, total: int | None) -> None:
        """It is so far, in bytes."""
        if self._progress is not None and number in self._tasks and come is not None:
            self._progress.update(self._tasks[number], completed=come, total=total)

    def end(self, number: int) -> None:
        """It is over: no bar any more."""
        if self._progress is not None and (task := self._tasks.pop(number, None)) is not None:
            self._progress.remove_task(task)


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars while the body runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield Bars(console, None)
        return
    columns = (
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(console, progress)
