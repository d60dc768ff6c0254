"""Follows downloads to their end at the command line: a bar for each on a terminal, else a line for each change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import click

from api.bars import Bars, bars
from api.download_objects import TASK
from api.showing import size
from streams import progress as live
from streams.background import running
from streams.downloads import Download, fold
from streams.errors import LogUnavailableError
from streams.identity import download_subject
from streams.log import Log
from streams.paths import escape_path

LOOK = 1.0
"""Seconds of one wait for the log."""


async def follow(log: Log, asked: Sequence[Download], *, quiet: bool) -> list[Download]:
    """Wait until all of them, and the entries of those that are lists, are over; show how far they are.

    How they ended, entries after their list. `quiet`: say nothing. A log that goes away is waited for.
    """
    following = _Following(log, {one.number: one for one in asked})
    with ExitStack() as stack:
        if not quiet:
            following.bars = stack.enter_context(bars())
        async with running(following.move()):
            while not following.over():
                positions = await following.heads()
                if not await following.look():
                    await log.wait_beyond(positions, timeout=LOOK)
    return list(following.known.values())


@dataclass(slots=True)
class _Following:
    log: Log
    known: dict[int, Download]
    bars: Bars | None = None
    told: dict[int, str] = field(default_factory=dict)

    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return all(number in self.told and self._is_settled(one) for number, one in self.known.items())

    async def heads(self) -> list[int]:
        """From where there is something new to look at."""
        try:
            return await self.log.heads()
        except LogUnavailableError:
            return [0] * self.log.partitions

    async def look(self) -> bool:
        """See how all that is open stands now; whether anything changed."""
        changed = False
        for number, before in list(self.known.items()):
            if number in self.told and self._is_settled(before):
                continue
            try:
                after = fold(await self.log.history(download_subject(number))) or before
            except LogUnavailableError:
                await asyncio.sleep(LOOK)
                return False
            self.known[number] = after
            changed |= after.ver != before.ver
            for entry in after.numbers:
                if entry not in self.known and (one := await self._entry(entry)) is not None:
                    self.known[entry], changed = one, True
            self._tell(after)
        return changed

    async def move(self) -> None:
        """Move the bars, for ever."""
        if self.bars is None:
            return
        async for one in live.follow(self.log.redis, self.log.keys):
            number = next((n for n in self.known if one.video == download_subject(n)), None)
            if one.task == TASK and number is not None and self.known[number].status == "Processing":
                details = one.details or {}
                self.bars.move(number, details.get("bytes"), details.get("total"))

    def _is_settled(self, download: Download) -> bool:
        """Whether it is over, and all entries of it are known, where it is a list."""
        return not download.is_open and all(entry in self.known for entry in download.numbers)

    async def _entry(self, number: int) -> Download | None:
        try:
            return fold(await self.log.history(download_subject(number)))
        except LogUnavailableError:
            return None

    def _tell(self, download: Download) -> None:
        """Say what has changed."""
        words = f"{download.status}: {_words(download)}"
        if self.told.get(download.number) == words:
            return
        self.told[download.number] = words
        if self.bars is None:
            return
        name = download.title or download.url
        if download.is_open:
            self.bars.show(download.number, name, words)
            return
        self.bars.end(download.number)
        if download.status == "Error":
            click.echo(f"{download.number} {_plain(name)}: {_plain(download.message)}", err=True)
        else:
            click.echo(f"{download.number} {_plain(name)}: {_plain(_words(download))}")


def _words(download: Download) -> str:
    if download.phase == "stored" and download.path is not None:
        return f"{escape_path(download.path)} ({size(download.size)})"
    return download.message or download.status


def _plain(text: str) -> str:
    """Titles and reasons are other people's words: nothing in them steers a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
