"""Restores from a bucket when everything else is gone: no log, no catalogue, no data folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import orjson

from api.bootstrap import open_bucket
from api.progress import progress
from api.showing import plain, size
from processors.manifests import BadManifestError, Manifest, safe_file_name
from processors.origins import Listed, from_bucket, listed, streams_beginning
from processors.ports import ObjectStore
from processors.restoring import DamagedCopyError, Restored, Telling, rebuild
from processors.storage.files import make_folder
from processors.storage.partfile import disk_errors
from processors.storage.threads import in_thread
from streams.errors import NotFoundError, RejectedError, TransientError
from streams.paths import escape_path
from streams.settings import Settings

FILES = 4
"""Files that are restored side by side."""

AT_ONCE = 1000
"""Files that are looked after at once; the others wait without a task of their own."""


async def show_bucket(settings: Settings, *, as_json: bool) -> None:
    """Show every complete stream as soon as it is read; what cannot be restored goes to stderr."""
    count = 0
    async with open_bucket(settings) as store:
        async for one in listed(store):
            if as_json:
                click.echo(orjson.dumps(_as_json(one)).decode())
            elif one.manifest is None or one.fault:
                click.echo(f"{one.stream_id}: {plain(one.fault)}", err=True)
            else:
                if not count:
                    click.echo(f"{'stream':64}  {'completed':19}  {'size':>12}  name")
                manifest = one.manifest
                name = plain(manifest.file_name).plain
                completed = plain(manifest.completed_at[:19]).plain
                click.echo(f"{one.stream_id}  {completed:19}  {size(manifest.file_size):>12}  {name}")
                count += 1
        if not count and not as_json:
            click.echo(_nothing_in(store), err=True)


def _nothing_in(store: ObjectStore) -> str:
    return f"There is no complete stream in {store.label}. Is that the right bucket (--bucket) on the right server?"


async def restore_stream(settings: Settings, start: str, output: Path | None, *, force: bool) -> None:
    """Restore one stream by what its own manifest says."""
    async with open_bucket(settings) as store:
        stream_id = await streams_beginning(store, start)
        manifest, wanted = await from_bucket(store, stream_id)
        name = safe_file_name(manifest.file_name)
        target = Path(name) if output is None else output / name if output.is_dir() else output
        with progress(target.name, wanted.size, in_bytes=True) as shown:
            telling = Telling(shown.advance, shown.say)
            restored = await rebuild(wanted, target.absolute(), force=force, telling=telling)
        click.echo(told(restored, wanted.origin))


@dataclass(frozen=True, slots=True)
class Planned:
    """A stream and the name that its file gets in the folder."""

    stream_id: str
    name: str
    size: int


async def restore_all(settings: Settings, folder: Path, *, force: bool) -> int:
    """Restore every stream into a folder; how many could not be."""
    folder = folder.absolute()
    unusable = done = 0
    found: list[Manifest] = []
    async with open_bucket(settings) as store:
        async for one in listed(store):
            if one.manifest is None or one.fault:
                click.echo(f"{one.stream_id}: {plain(one.fault)}", err=True)
                unusable += 1
            else:
                found.append(replace(one.manifest, parts=()))
        plan = planned(found)
        if not plan:
            raise NotFoundError(_nothing_in(store))
        with disk_errors(folder):
            await in_thread(make_folder, folder)
        with progress(folder.name, sum(one.size for one in plan), in_bytes=True) as shown:
            telling = Telling(shown.advance, shown.say)
            waiting = asyncio.Semaphore(FILES)

            async def work(one: Planned) -> bool:
                async with waiting:
                    return await _restore_planned(store, one, folder, telling, force=force)

            for start in range(0, len(plan), AT_ONCE):
                done += sum(await _all_of([work(one) for one in plan[start : start + AT_ONCE]]))
        click.echo(f"{done} of {len(plan)} files are in {escape_path(str(folder))}")
    return unusable + len(plan) - done


def planned(found: Sequence[Manifest]) -> list[Planned]:
    """What each file is called: its own name where that is free; former contents say which they are.

    The same streams always get the same names, so that a second run goes on with the first one's files.
    """
    newest: dict[str, int] = {}
    for one in found:
        newest[one.video] = max(newest.get(one.video, 0), one.revision)
    taken: set[str] = set()
    plan = []
    for one in sorted(found, key=lambda one: (one.completed_at, one.stream_id)):
        stem, extension = os.path.splitext(safe_file_name(one.file_name))
        if one.video and one.revision < newest[one.video]:
            stem = f"{_cut(stem)}.revision-{one.revision}"
        name = stem + extension
        if name.casefold() in taken:
            name = f"{_cut(stem)}.{one.stream_id[:16]}{extension}"
        if name.casefold() in taken:
            name = f"{one.stream_id}{extension}"
        taken.add(name.casefold())
        plan.append(Planned(one.stream_id, name, one.file_size))
    return plan


def told(restored: Restored, origin: str) -> str:
    """What was done, in words."""
    path = escape_path(str(restored.path))
    if restored.there_before:
        return f"{path} is there already, whole ({size(restored.size)}, sha256 {restored.sha256})"
    kept = restored.size - restored.fetched
    went_on = f", {size(kept)} of it fetched before" if kept else ""
    return f"{path} restored from {origin} ({size(restored.size)}{went_on}, sha256 {restored.sha256})"


async def _restore_planned(store: ObjectStore, one: Planned, folder: Path, telling: Telling, *, force: bool) -> bool:
    """Restore one of many. What concerns this one alone is said; what concerns all of them is raised."""
    try:
        _, wanted = await from_bucket(store, one.stream_id)
        restored = await rebuild(wanted, folder / one.name, force=force, telling=telling)
    except (DamagedCopyError, BadManifestError, TransientError, RejectedError) as error:
        if isinstance(error, RejectedError) and error.status >= 500:
            raise
        telling.say(f"{one.stream_id} ({escape_path(one.name)}): {error}")
        return False
    if restored.there_before:
        telling.advance(restored.size)
    click.echo(told(restored, wanted.origin))
    return True


async def _all_of(works: Sequence[Coroutine[Any, Any, bool]]) -> list[bool]:
    """Do all of them; the first that raises ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cut(stem: str) -> str:
    """Short enough that something can be appended."""
    return os.fsencode(stem)[:200].decode("utf-8", "ignore")


def _as_json(one: Listed) -> dict[str, Any]:
    manifest = one.manifest
    told = {
        "stream_id": one.stream_id,
        "restorable": manifest is not None and not one.fault,
        "fault": one.fault or None,
    }
    if manifest is None:
        return told
    return {
        **told,
        "file_name": manifest.file_name,
        "file_size": manifest.file_size,
        "sha256": manifest.sha256,
        "completed_at": manifest.completed_at,
        "video": manifest.video or None,
        "revision": manifest.revision,
    }
