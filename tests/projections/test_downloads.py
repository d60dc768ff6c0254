"""The tables of downloads: equal to what their events tell, and quick to ask."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from datetime import timedelta

import pytest

from api.bootstrap import WorkerProjections
from processors.download_door import DownloadDoor
from processors.download_queue import DownloadQueue
from processors.download_requests import Requests, Wanted
from processors.request_keeping import RequestKeeper
from projections.queries import Catalogue
from streams.downloads import Download, fold
from streams.entries import NewEvent
from streams.events import (
    AttemptFailed,
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadPostponed,
    DownloadRefreshed,
    DownloadStarted,
    DownloadStored,
    Event,
)
from streams.gate import Gate
from streams.identity import download_subject
from streams.paths import OsPath
from tests.projections.conftest import World, applied, until
from tests.streams.test_downloads_fold import AT, EXTRACTED


def some_events(rng: random.Random, number: int) -> list[Event]:
    """What may happen to a download, in any order."""
    path = OsPath(f"/media/bad \udcff \\ {number}.mp4")
    extracted = DownloadExtracted(
        take=1, attempt=1, extractor="Site", media_id=f"{number % 20}", title=f"Ferien äöü 日本 {number}", uploader=None,
        uploader_url=None, upload_date=None, description="x", webpage_url="http://a.test", duration=0.1 * number,
        chapters=(), thumbnails=(), formats=(), live=False, size=2**40 + number,
    )  # fmt: skip
    known: list[Event] = [
        DownloadStarted(take=1, attempt=1, host="a.test", config={"audio_only": bool(number % 2)}),
        extracted,
        AttemptFailed(group="download", position=1, attempt=1, reason="oh", retry_at=AT),
        DownloadPostponed(take=1, attempt=1, kind="retry", reason="503 " * 900, until=AT + timedelta(microseconds=5)),
        DownloadExpanded(
            take=1, title="l", entries=2, more=True, limit=2, numbers=(number + 1, number + 2), skipped=()
        ),
        DownloadStored(take=1, video=f"v{number}", path=path, size=1, files=(path, OsPath("/x"))),
        DownloadFailed(take=1, attempt=1, kind="gone", reason="It is gone.", advice="Look elsewhere."),
        DownloadRefreshed(take=2),
        DownloadFilesRemoved(paths=(path,)),
        DownloadDeleted(keep_file=False),
    ]
    in_order = known[: rng.randrange(len(known) + 1)]
    return in_order if number % 2 else rng.sample(known, len(in_order))


async def happen(world: World, rng: random.Random, count: int) -> None:
    """That many requests, some of them entries of the first, and what happens to them."""
    requests = Requests(world.log, world.settings)
    for n in range(count):
        wanted = Wanted(f"k{n}", f"http://a.test/{n}", "/wörk", {"limit": n + 1}, "me", 1 if n % 3 else None,
                        n if n % 5 == 0 else None, f"Site {n}", f"Title {n}")  # fmt: skip
        [taken] = await requests.take([wanted])
        subject = download_subject(taken.number)
        news = [
            NewEvent(subject, event, f"{n}/{at}", "test") for at, event in enumerate(some_events(rng, taken.number))
        ]
        await world.log.append_all(news)


async def folded(world: World) -> list[Download]:
    """Every download as its own events tell, by number."""
    subjects = sorted(await world.log.subjects("download:"), key=lambda one: int(one.partition(":")[2]))
    found = [fold(await world.log.history(subject)) for subject in subjects]
    return [one for one in found if one is not None]


async def test_the_table_is_what_the_events_tell_and_a_rebuilt_one_is_equal(world: World, rng: random.Random) -> None:
    """Whatever happened, in SQLite and MariaDB; every question is answered from it."""
    catalogue = Catalogue(world.database, world.log)
    door = DownloadDoor(world.log, world.settings)
    async with world.running("downloads", "download_config", "timeline") as runner:
        await happen(world, rng, 60)
        await door.change_config({"concurrency": 2}, {"ü": [1]})
        await door.change_config({"max_height": 720})
        await applied(runner)
        told = await folded(world)
        rows = await world.rows("downloads", "number")
        assert [row["phase"] for row in rows] == [one.phase for one in told]
        here = [one for one in told if one.phase != "deleted"]
        assert list(await catalogue.downloads()) == here
        assert await catalogue.download(here[3].number) == here[3]
        assert list(await catalogue.downloads(after=here[3].number, limit=5)) == here[4:9]
        for status in ("Pending", "Processing", "Downloaded", "Error"):
            assert list(await catalogue.downloads(status)) == [one for one in here if one.status == status]
        positions, open_ones = await catalogue.open_downloads()
        heads = await world.log.heads()  # what a table does not fold is passed over now and then only
        assert all(0 < at <= head for at, head in zip(positions, heads, strict=True))
        assert open_ones == [one for one in here if one.is_open]
        assert await catalogue.children(1) == [one for one in here if one.parent == 1]
        stored = {one.archive_key: one for one in here if one.phase == "stored" and one.path}  # the newest
        found = await catalogue.fetched([*(str(key) for key in stored), "Site none"])
        assert {key: one.number for key, one in found.items()} == {key: one.number for key, one in stored.items()}
        saved = await catalogue.download_config()
        assert (saved.change, saved.config, saved.preferences) == (2, {"concurrency": 2, "max_height": 720}, {"ü": [1]})
        assert saved.changed is not None
        deleted = next(row["number"] for row in rows if row["phase"] == "deleted")
        assert await catalogue.download(deleted) is None
        assert await runner.rebuild(compare=True) == {"downloads": [], "download_config": [], "timeline": []}
    assert not [row for row in await world.rows("timeline") if row["subject"].startswith("registry:")]


async def test_an_archive_key_tells_sound_from_picture_and_one_blank_from_none(world: World) -> None:
    """What is there under another key is something else."""
    catalogue = Catalogue(world.database, world.log)
    requests = Requests(world.log, world.settings)
    stored = DownloadStored(take=1, video="v", path=OsPath("/media/a.mp4"), size=1, files=())
    async with world.running("downloads") as runner:
        for audio in (False, True):
            [taken] = await requests.take([Wanted(f"k{audio}", "http://a.test/", "/", {"audio_only": audio})])
            events = [DownloadStarted(take=1, attempt=1, host="a", config={"audio_only": audio}), EXTRACTED, stored]
            subject = download_subject(taken.number)
            await world.log.append_all([NewEvent(subject, one, f"{audio}/{n}", "test") for n, one in enumerate(events)])
        await applied(runner)
        found = await catalogue.fetched(["Site a", "Site a (audio)", "Site a ", "site a"])
        assert {key: one.number for key, one in found.items()} == {"Site a": 1, "Site a (audio)": 2}


async def test_before_the_tables_are_made_nothing_is_known_and_that_is_said(world: World) -> None:
    """Not that there are no downloads."""
    catalogue = Catalogue(world.database, world.log)
    assert await catalogue.open_downloads() == ([], [])
    with pytest.raises(Exception, match="not made yet"):
        await catalogue.downloads()


async def test_a_thousand_queued_are_all_there_after_a_restart_in_order(mariadb_world: World) -> None:
    """Read from the table once; whichever is next is started at once, whichever ended before stays so."""
    world, count = mariadb_world, 1000
    requests, catalogue = Requests(world.log, world.settings), Catalogue(world.database, world.log)
    door = DownloadDoor(world.log, world.settings, known=catalogue)
    async with world.running("downloads") as runner:
        wanted = [Wanted(f"k{n}", f"http://a.test/{n}", "/") for n in range(count)]
        taken = await requests.take(wanted)
        assert [one.number for one in taken] == list(range(1, count + 1))
        await door.cancel(2)
        await applied(runner)
        before = time.monotonic()
        queue = DownloadQueue(world.log, world.settings, catalogue)
        task = asyncio.create_task(queue.run())
        try:
            for number in (1, 3, 4, 5):
                subject = download_subject(number)
                begun = await world.log.wait_for(subject, {"DownloadStarted"}, timeout=30)
                assert begun is not None
                if number == 1:
                    print(f"{count} queued: the first is started {time.monotonic() - before:.3f} s after a restart")
                    assert sorted(queue.dispatcher.turns.open) == [1, *range(3, count + 1)]
                failed = DownloadFailed(take=1, attempt=1, kind="gone", reason="gone")
                await world.log.append(NewEvent(subject, failed, f"end/{number}", "test"))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        types = [(await world.log.history(download_subject(number)))[-1].type for number in range(1, 9)]
        assert types[:5] == ["DownloadFailed", "DownloadCancelled", *["DownloadFailed"] * 3]
        assert types[6:] == ["DownloadRequested"] * 2


async def test_after_a_lost_log_the_queue_goes_on_as_it_was(world: World, rng: random.Random) -> None:
    """Given the gate, then numbers, requests and endings are back, under their numbers, and nothing is done again."""
    requests, catalogue = Requests(world.log, world.settings), Catalogue(world.database, world.log)
    door = DownloadDoor(world.log, world.settings, known=catalogue)
    async with world.running("downloads") as runner:
        await requests.take([Wanted(f"k{n}", f"http://a.test/{n}", "/") for n in range(40)])
        over = rng.sample(range(1, 41), 20)
        for number in over:
            stored = DownloadStored(take=1, video=f"v{number}", path=OsPath(f"/media/{number}"), size=1, files=())
            await world.log.append(NewEvent(download_subject(number), stored, f"stored/{number}", "test"))
        for number in over[:5]:
            await door.delete(number)
        await RequestKeeper(world.log, requests).keep_up()
        await applied(runner)
        before = {one.number: one for one in await catalogue.downloads()}
        gate = Gate(world.log, WorkerProjections(runner, world.database), [requests.restore], "me")
        watching = asyncio.create_task(gate.run(WorkerProjections(runner, world.database).started))
        try:
            await gate.opened()
            await world.log.redis.flushall()
            await world.log.prepare()
            await until(lambda: gate.reason is not None, "the gate closing")
            await gate.opened()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        await applied(runner)
        after = {one.number: one for one in await catalogue.downloads()}
        for name in ("number", "key", "url", "phase", "video", "path", "requested"):
            assert [getattr(one, name) for one in after.values()] == [getattr(one, name) for one in before.values()]
        assert (await door.request("http://a.test/new")).number == 41
        _, open_ones = await catalogue.open_downloads()
        assert {one.number for one in open_ones} - {41} == {number for number in range(1, 41) if number not in over}
