"""`spoolhouse verify`: compare every copy with what was sent, name what is wrong, and repair it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import click
import orjson

from api.bootstrap import Recovery, open_recovery
from api.progress import Shown, progress
from api.resolving import resolve
from api.showing import AS_JSON, console, many, plain, run, size
from api.verifying import Looked, look
from processors.verifying import Checked
from streams.errors import RejectedError, SpoolhouseError
from streams.settings import Settings, load_settings

T = TypeVar("T")
R = TypeVar("R")

VIDEOS, DEEPLY = 8, 2
"""Videos that are looked at side by side: shallow, and where all of their bytes pass through memory."""

SHOWN_FAULTS = 10
TRIES = 3
PAUSE = 5.0
"""Seconds before a place that is down is asked once more."""

CATCH_UP = 10.0
"""Seconds that the catalogue gets to follow the log."""

STYLES = {"whole": "green", "damaged": "bold red", "incomplete": "yellow", "absent": "yellow", "unchecked": "yellow"}


@click.command()
@click.argument("videos", nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="Every video.")
@click.option("--deep", is_flag=True, help="Read and hash every byte, not only what the stores say of theirs.")
@click.option("--repair", is_flag=True, help="Send again what is missing or wrong, from whichever copy is whole.")
@AS_JSON
@click.pass_context
def verify(
    ctx: click.Context, videos: tuple[str, ...], *, everything: bool, deep: bool, repair: bool, as_json: bool
) -> None:
    """Compare copies with what was sent: sizes and checksums that the stores keep, or every byte (--deep).

    A directory keeps no checksums: there only --deep finds a byte that turned. With --json one line
    for each video. Exit status: 0 all is well, 1 something is wrong, 2 something could not be
    checked, or not be written down.
    """
    if bool(videos) == everything:
        raise click.UsageError("Name the videos by their ids (`spoolhouse list` shows them), or say --all.")
    try:
        status = run(_verify(load_settings(), videos, deep=deep, repair=repair, as_json=as_json))
    except SpoolhouseError as error:
        click.echo(f"spoolhouse: {error}", err=True)
        status = 2
    ctx.exit(status)


async def _verify(settings: Settings, videos: Sequence[str], *, deep: bool, repair: bool, as_json: bool) -> int:
    """Look at these, or at all; the exit status."""
    if not (settings.s3_configured or settings.drive_configured):
        raise RejectedError(
            400, "There are no copies to verify: neither an object store nor Google Drive is configured."
        )
    counts: Counter[int] = Counter()
    async with open_recovery(settings) as at_hand:
        with progress("objects", None, in_bytes=False) as shown:

            async def one(video: str) -> Looked:
                return await _patiently(at_hand, settings, video, shown, deep=deep, repair=repair)

            async with aclosing(
                side_by_side(_ids(at_hand, videos, shown), one, DEEPLY if deep else VIDEOS)
            ) as all_looked:
                async for looked in all_looked:
                    counts[looked.status] += 1
                    if as_json:
                        click.echo(orjson.dumps(as_dict(looked)).decode())
                    elif looked.status or videos or looked.repairs:
                        _tell(looked)
                    if looked.down is not None and not videos:
                        shown.say(f"Stopped, since the rest cannot be checked now: {looked.down}")
                        break
    if not as_json:
        click.echo(
            f"{many(counts.total(), 'video')} verified: {counts[0]} well, {counts[1]} with something wrong, "
            f"{counts[2]} not checked or not written down"
        )
    return 1 if counts[1] else 2 if counts[2] else 0


async def _ids(at_hand: Recovery, videos: Sequence[str], shown: Shown) -> AsyncIterator[str]:
    """The videos to look at; all that have a file of their own, where none is named."""
    for video in videos:
        yield await resolve(at_hand.catalogue, video)
    if videos:
        return
    if not await at_hand.catalogue.copies_caught_up(CATCH_UP):
        shown.say("The catalogue is behind the log: what came in last may be left out.")
    async for one in at_hand.catalogue.copies():
        if one.state != "adopted" and (one.state != "removed" or one.replicas):
            yield one.id


async def _patiently(
    at_hand: Recovery, settings: Settings, video: str, shown: Shown, *, deep: bool, repair: bool
) -> Looked:
    """Look at a video; once more, and then again, where a place is down."""
    for _ in range(TRIES - 1):
        looked = await look(at_hand, settings, video, deep=deep, repair=repair, looking=shown.advance)
        if looked.down is None:
            return looked
        shown.say(f"{looked.down}; trying again in {PAUSE:g} s")
        await asyncio.sleep(PAUSE)
    return await look(at_hand, settings, video, deep=deep, repair=repair, looking=shown.advance)


async def side_by_side(source: AsyncIterator[T], work: Callable[[T], Awaitable[R]], width: int) -> AsyncGenerator[R]:
    """Do the work for each of them, `width` at a time; what comes of it, as it comes."""
    tasks: set[asyncio.Task[R]] = set()
    try:
        async for one in source:
            tasks.add(asyncio.ensure_future(work(one)))
            if len(tasks) >= width:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------- what is shown


def as_dict(looked: Looked) -> dict[str, Any]:
    """A video's copies for programs."""
    return {
        "video": looked.video,
        "filename": looked.filename,
        "status": looked.status,
        "written": not looked.unwritten,
        "repairs": list(looked.repairs),
        "copies": [_copy(one) for one in looked.copies],
    }


def _copy(one: Checked) -> dict[str, Any]:
    return {
        "replica": one.replica,
        "revision": one.revision,
        "target": one.target or None,
        "state": one.state,
        "deep": one.deep,
        "objects": one.objects,
        "size": one.size,
        "faults": [{"key": fault.key, "expected": fault.expected, "found": fault.found} for fault in one.faults],
        "orphans": list(one.orphans),
        "reason": one.reason or None,
    }


def _tell(looked: Looked) -> None:
    out = console()
    out.print(plain(f"{looked.video}  {looked.filename}", "bold"), soft_wrap=True)
    for one in looked.copies:
        line = plain(f"  {one.replica:<5} ")
        line.append(one.state, STYLES[one.state])
        line.append_text(plain(f"  {_words(one)}"))
        out.print(line, soft_wrap=True)
        for fault in one.faults[:SHOWN_FAULTS]:
            out.print(plain(f"    {fault}"), soft_wrap=True)
        if len(one.faults) > SHOWN_FAULTS:
            out.print(plain(f"    … and {len(one.faults) - SHOWN_FAULTS} more"))
        for key in one.orphans[:SHOWN_FAULTS]:
            out.print(plain(f"    {key}: belongs to nothing"), soft_wrap=True)
    for words in looked.repairs:
        out.print(plain(f"  {words}"), soft_wrap=True)
    if looked.unwritten:
        out.print(plain(f"  the results were not written down: {looked.unwritten}"), soft_wrap=True)
    if not looked.copies:
        out.print(plain("  there is nothing to verify: it was removed, and no copy was completed"))


def _words(one: Checked) -> str:
    if one.reason:
        return one.reason
    how = "every byte" if one.deep else "sizes and checksums"
    return f"revision {one.revision}: {many(one.objects, 'object')}, {size(one.size)}, {how}"
