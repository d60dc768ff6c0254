"""`spoolhouse enhance`: renditions of a video, on request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import click

from api.bootstrap import open_reading
from api.connecting import redis_url
from api.enhancing import Asked, ask
from api.progress import progress
from api.resolving import WHOLE, resolve
from api.showing import AS_JSON, print_json, run
from streams import progress as live
from streams.background import running
from streams.codec import Recorded
from streams.errors import NotFoundError
from streams.events import EnhancementCompleted, EnhancementFailed, EnhancementStarted, RenditionStored
from streams.log import Log, open_log
from streams.paths import escape_path
from streams.settings import Settings, load_settings

TOLD = ("EnhancementStarted", "RenditionStored", "EnhancementCompleted", "EnhancementFailed", "EntryParked")

LOOK = 5.0
"""Seconds of one wait for the log."""


@click.command()
@click.argument("video")
@click.option("--preset", help="web, clean, small, plain, or one of SPOOLHOUSE_PRESETS. Unset: as the settings say.")
@click.option("--hls", is_flag=True, help="A ladder for adaptive streaming, too.")
@click.option(
    "--wait", is_flag=True, help="Show how far it is, and end when it is there. Exit status 1 where it failed."
)
@AS_JSON
def enhance(video: str, preset: str | None, *, hls: bool, wait: bool, as_json: bool) -> None:
    """Make a rendition of a video that every browser plays. The first characters of its id will do.

    The worker makes it; what is there already by the same preset is not made again. It is then streamed from
    /processed_videos/<id>.
    """
    if not run(_enhance(video, preset, hls=hls, wait=wait, as_json=as_json)):
        raise click.exceptions.Exit(1)


async def _enhance(start: str, preset: str | None, *, hls: bool, wait: bool, as_json: bool) -> bool:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        asked = await ask(log, settings, await _named(settings, start), preset, hls=hls)
        if not wait:
            if as_json:
                print_json({"id": asked.video, "preset": asked.preset, "hls": asked.hls})
            else:
                click.echo(f"{asked.video} is in the queue for a rendition by the preset {asked.preset}")
            return True
        return await _follow(log, asked, as_json=as_json)


async def _named(settings: Settings, start: str) -> str:
    if len(start) >= WHOLE:
        return start.lower()
    async with open_reading(settings) as reading:
        return await resolve(reading.catalogue, start)


async def _follow(log: Log, asked: Asked, *, as_json: bool) -> bool:
    """Show what happens until the end of it; whether it ended well."""
    made: list[dict[str, Any]] = []
    with progress(asked.preset, 100, in_bytes=False) as shown:

        async def move() -> None:
            done = 0
            async for one in live.follow(log.redis, log.keys):
                if one.video == asked.video and one.percent > done:
                    shown.advance(int(one.percent) - done)
                    done = int(one.percent)

        after = asked.ver
        async with running(move()):
            while True:
                told = await log.wait_for(asked.video, TOLD, after=after, timeout=LOOK)
                if told is None:
                    await _require_there(log, asked.video)
                    continue
                after = told.ver
                if told.cause != asked.id:
                    continue  # of another request
                if (well := _tell(told, made, shown.say, as_json=as_json)) is not None:
                    break
    if as_json:
        print_json({"id": asked.video, "preset": asked.preset, "completed": well, "renditions": made})
    return well


def _tell(told: Recorded[Any], made: list[dict[str, Any]], say: Any, *, as_json: bool) -> bool | None:
    """Say what happened; whether that ends it, and how."""
    quiet = (lambda _: None) if as_json else say
    match told.event:
        case EnhancementStarted() as event:
            quiet(f"{event.kind} {event.height} rows, {event.action}: {event.reason}")
        case RenditionStored() as event:
            made.append({"rendition": event.rendition, "path": escape_path(event.path), "size": event.size})
            quiet(f"stored {escape_path(event.path)} ({event.size} bytes, {event.seconds:g} s)")
            for warning in (*event.warnings, *([event.damage] if event.damage else [])):
                quiet(f"note: {warning}")
        case EnhancementCompleted():
            quiet("all renditions are there")
            return True
        case EnhancementFailed() as event:
            click.echo(f"failed: {event.reason}", err=True)
            return False
        case event if getattr(event, "group", "") == "enhance":
            click.echo(f"given up for now: {event.reason}; `spoolhouse parked` shows it", err=True)
            return False
    return None


async def _require_there(log: Log, video: str) -> None:
    """Raise where the video is gone meanwhile; a log that cannot be reached is waited for."""
    with suppress(asyncio.TimeoutError):
        if not await log.version(video):
            raise NotFoundError(f"There is no video {video} any more.")
