"""A list becomes a download for each of its entries, in its order; what was fetched before is passed over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from processors.download_requests import Requests, Wanted
from processors.ports import Listed, ListEntry
from processors.storage.library import Library
from processors.storage.threads import in_thread
from streams.crashpoints import reach
from streams.downloads import Download, fold
from streams.events import DownloadExpanded
from streams.identity import download_subject, entry_key
from streams.log import Log
from streams.processing import Context
from streams.queries import Downloads, Fetched, Histories

BATCH = 100
"""Entries that are asked for at once."""

DEEPEST = 3
"""Lists within lists: a channel, its tabs, their playlists."""


class TooDeepError(Exception):
    """A list within too many others, or within itself; the message says so."""


async def expanded(
    listed: Listed,
    download: Download,
    audio_only: bool,
    limit: int,
    context: Context,
    look: Callable[[], Awaitable[None]],
) -> DownloadExpanded:
    """Ask for a list's entries; what is to be said of it. `look` raises where nobody wants it any more.

    Raises TooDeepError, DependencyDownError, LogUnavailableError, OSError.
    """
    above = await _above(download, context)
    if len(above) >= DEEPEST:
        raise TooDeepError(f"it is a list within {DEEPEST} others, and nobody wants that many")
    entries = [one for one in listed.entries if one.url not in above and one.url != download.url]
    if listed.entries and not entries:
        raise TooDeepError("it is a list of nothing but itself")
    there = await _fetched([_archive_key(one, audio_only=audio_only) for one in entries], context)
    open_before = await _open_before(download, context)
    requests = Requests(context.service(Log), context.settings)
    numbers: list[int] = []
    skipped: list[int] = []
    for start in range(0, len(entries), BATCH):
        await look()
        context.beat()
        wanted: list[Wanted] = []
        places: list[int] = []
        for entry in entries[start : start + BATCH]:
            found = there.get(_archive_key(entry, audio_only=audio_only) or "")
            if found is not None:
                skipped.append(found.number)
            elif (number := open_before.get(entry.url)) is not None:
                numbers.append(number)
            else:
                wanted.append(_wanted(entry, download))
                places.append(len(numbers))
                numbers.append(0)
        for place, taken in zip(places, await requests.take(wanted), strict=True):
            numbers[place] = taken.number
        reach("download.listed")
    return DownloadExpanded(
        take=download.take,
        title=listed.title[:500],
        entries=max(listed.total, len(listed.entries)),
        more=listed.more,
        limit=limit,
        numbers=tuple(numbers),
        skipped=tuple(skipped),
    )


def _wanted(entry: ListEntry, download: Download) -> Wanted:
    options: dict[str, Any] = dict(download.options)
    return Wanted(
        key=entry_key(download.key, entry.key or entry.url, download.take),
        url=entry.url,
        directory=download.directory,
        options=options,
        client_id=download.client_id,
        parent=download.number,
        subscription=download.subscription,
        entry=entry.key,
        title=entry.title,
    )


def _archive_key(entry: ListEntry, *, audio_only: bool) -> str | None:
    """As `Download.archive_key`."""
    return None if entry.key is None else f"{entry.key[:500]}{' (audio)' if audio_only else ''}"


async def _fetched(keys: list[str | None], context: Context) -> dict[str, Fetched]:
    """Which of them are stored, their files still being there."""
    downloads = context.service(Downloads)  # type: ignore[type-abstract]
    library = Library(context.settings)
    known = list(dict.fromkeys(key for key in keys if key is not None))
    found: dict[str, Fetched] = {}
    for start in range(0, len(known), 500):
        found |= await downloads.fetched(known[start : start + 500])
    return {key: one for key, one in found.items() if await in_thread(library.is_there, one.video, one.path)}


async def _open_before(download: Download, context: Context) -> dict[str, int]:
    """Entries that an earlier take asked for and that are not done yet: they are not asked for twice."""
    if download.take == 1:
        return {}
    children = await context.service(Downloads).children(download.number)  # type: ignore[type-abstract]
    return {one.url: one.number for one in children if one.is_open}


async def _above(download: Download, context: Context) -> list[str]:
    """The URLs of the lists that it is an entry of, the nearest first."""
    histories = context.service(Histories)  # type: ignore[type-abstract]
    above: list[str] = []
    parent = download.parent
    while parent is not None and len(above) < DEEPEST:
        one = fold(await histories.history(download_subject(parent)))
        if one is None:
            break
        above.append(one.url)
        parent = one.parent
    return above
