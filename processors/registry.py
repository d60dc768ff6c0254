"""The numbers of the legacy `videos` table: handed out once, kept for ever.

A number is the version that the registry's own subject has when a video is numbered, so the log
itself hands them out and a repeat gets the same one. Rows that were in the table before Spoolhouse
keep theirs: they are adopted as events, and new numbers start above them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from streams.codec import recorded
from streams.entries import NewEvent, new_event
from streams.errors import ConflictError, SpoolhouseError, UndecodableError
from streams.events import NumbersReserved, RowAdopted, VideoNumbered
from streams.identity import REGISTRY, adopted_row_id, event_id, watched_video_id
from streams.log import Log
from streams.paths import unescape_path
from streams.queries import LegacyRow, LegacyRows

BATCH = 500

REACH = 100_000
"""Numbers that are skipped at the most because a row of someone else's stands above ours."""

_log = structlog.get_logger(__name__)


class Registry:
    """Opens the registry at start, and restores it where the log lost its tail."""

    def __init__(self, log: Log, rows: LegacyRows, roots: Sequence[str]) -> None:
        self._log, self._rows, self._roots = log, rows, roots

    async def open(self) -> int:
        """Reserve the numbers of rows that are there already and adopt them; how many were adopted.

        To be called when the projections have caught up. Harmless to repeat.
        """
        foreign = await self._rows.foreign_rows()
        await self._reach([row.number for row in foreign], {})
        await self._adopt(foreign)
        if foreign:
            _log.info("rows of the videos table adopted", rows=len(foreign))
        return len(foreign)

    async def restore(self) -> int:
        """After a lost tail: give every row of the table its number (and its past) back."""
        rows = await self._rows.all_rows()
        before = await self._log.version(REGISTRY)
        # A file that was settled just as the log came back carries a number that the registry may have lost.
        told = await self._numbers_in_use()
        ids = {number: video for video, number in told.items()}
        ids.update((row.number, video) for row, video in rows if video is not None)
        await self._reach([*ids, *(row.number for row, _ in rows)], ids)
        adopted = await self._adopt(
            [row for row, _ in rows], {row.number: video for row, video in rows if video is not None}, told
        )
        return await self._log.version(REGISTRY) - before + adopted

    async def _reach(self, numbers: Collection[int], ids: Mapping[int, str]) -> None:
        """See to it that the next number to be handed out is beyond all of these."""
        history = await self._log.history(REGISTRY)
        if not history:
            # Whoever has one of them is told so by its row; no one else ever gets it.
            reserved = NumbersReserved(through=max(numbers, default=0))
            reservation = NewEvent(REGISTRY, reserved, event_id(REGISTRY, "reserved"), "registry", expected=0)
            await self._log.append(reservation)
            return
        first = history[0].event
        through = first.through if isinstance(first, NumbersReserved) else 0
        following = through + len(history)  # the number that the next version hands out
        near = [number for number in numbers if number < following + REACH]
        if far := sorted(set(numbers) - set(near)):
            _log.error(
                "rows of `videos` have ids far above ours: give them lower ones before ours get there",
                ids=far[:10],
                rows=len(far),
                ours=following,
            )
        for start in range(following, max(near, default=0) + 1, BATCH):
            part = range(start, min(start + BATCH, max(near) + 1))
            await self._log.append_all(
                [
                    new_event(REGISTRY, VideoNumbered(video=ids.get(number, f"row:{number}")), source="watch")
                    for number in part
                ],
                timeout=30,
            )

    async def _numbers_in_use(self) -> dict[str, int]:
        """Video → number, as the videos' own subjects tell it."""
        found: dict[str, int] = {}
        for partition in range(self._log.partitions):
            after = 0
            while entries := await self._log.read(partition, after=after):
                for entry in entries:
                    if entry.fields.get(b"type") in {b"FileSettled", b"RowAdopted"}:
                        with contextlib.suppress(UndecodableError):
                            event = recorded(partition, entry.pos, entry.fields)
                            found.setdefault(event.subject, event.event.number)
                after = entries[-1].pos
        return found

    async def _adopt(
        self, rows: Sequence[LegacyRow], ids: Mapping[int, str] | None = None, told: Collection[str] | None = None
    ) -> int:
        """Append what rows say of videos that the log does not know; how many those were.

        `told` are all videos whose first events the log has. Of others it may have something all the
        same: a processor wrote down what it had found out just after the tail was lost.
        """
        adopted, taken = 0, set()
        news: list[NewEvent] = []
        for row in sorted(rows, key=lambda one: one.number):
            subject = (ids or {}).get(row.number) or self._subject(row)
            if subject in taken:  # two rows of one path: the older one is the file's
                subject = adopted_row_id(row.number)
            taken.add(subject)
            event = RowAdopted(
                number=row.number,
                main_dir=row.main_dir,
                path=row.path,
                url=row.url,
                status=row.status,
                created=row.created,
            )
            news.append(NewEvent(subject, event, event_id(subject, "adopted"), "registry", expected=0))
        for start in range(0, len(news), BATCH):
            batch = news[start : start + BATCH]
            for new, answer in zip(batch, await self._log.try_append_all(batch, timeout=30), strict=True):
                if isinstance(answer, ConflictError):
                    if told is not None and new.subject not in told:
                        adopted += not (await self._log.append(replace(new, expected=None), timeout=30)).duplicate
                    continue  # the log knows this video: its own events tell more than the row
                if isinstance(answer, SpoolhouseError):
                    raise answer
                adopted += not answer.duplicate
        return adopted

    def _subject(self, row: LegacyRow) -> str:
        """The watched file that a row is about, or a stand-in where no root explains it."""
        path = unescape_path(row.path)
        for root in self._roots:
            if path.startswith(root.rstrip("/") + "/"):
                return watched_video_id(root, os.path.relpath(path, root))
        return adopted_row_id(row.number)
