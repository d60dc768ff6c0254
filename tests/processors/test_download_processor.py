"""Downloads from end to end, with a fetcher that does as it is told: what lies where, and what the log says, in every case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from processors.download_failures import Setback, Standing
from processors.ports import FetchFailure, FinishedFile, Listed, ListEntry, MediaFailure
from processors.reconciling import Reconciler
from processors.storage.library import Former, Library
from processors.storage.library_unfinished import prepared
from processors.storage.library_work import folder_of, held
from processors.storage.sidecars import Sidecars
from streams.codec import Recorded
from streams.download_config import DownloadConfig
from streams.errors import LogUnavailableError
from streams.events import (
    DownloadCancelled,
    DownloadDeleted,
    DownloadExpanded,
    DownloadExtracted,
    DownloadFailed,
    DownloadFilesRemoved,
    DownloadMerged,
    DownloadPartFinished,
    DownloadPostponed,
    DownloadRefreshed,
    DownloadSkipped,
    DownloadStored,
    FileRemoved,
    VideoStored,
)
from streams.identity import download_subject, downloaded_video_id
from streams.log import open_log
from streams.paths import OsPath
from streams.progress import follow
from streams.queries import Fetched as Stored
from streams.settings import Settings
from tests.processors.downloading import Desk, FetcherDouble, Known, page
from tests.processors.enhancing import StudioDouble
from tests.processors.test_library import event as placed_event
from tests.processors.test_library import ready
from tests.streams.driving import eventually

Make = Callable[..., Settings]
FILM = "talks/A Film (2024)/A Film (2024) [x1]"


@pytest.fixture
async def desk(make_settings: Make, redis_url: str) -> AsyncIterator[Desk]:
    """A log on an empty Redis, and what a worker needs."""
    settings = make_settings(partitions=4, download_retry=0.01, download_attempts=3)
    async with open_log(settings, redis_url) as log:
        yield Desk(log, settings, FetcherDouble(), StudioDouble(), Known(log))


# ---------------------------------------------------------------- how it should go


async def test_what_is_fetched_lies_in_the_media_root_and_is_a_video(desk: Desk) -> None:
    """With all that media servers read; each step is in the log; nothing is left where it came in."""
    subject = await desk.ask(client_id="me")
    moved: list[Any] = []

    async def listen() -> None:
        async for progress in follow(desk.log.redis, desk.log.keys):
            moved.append(progress)  # noqa: PERF401 # it is read meanwhile

    listening = asyncio.create_task(listen())
    async with desk.working():
        await desk.start(subject)
        state = await desk.reaches(subject, "stored")
    assert {name: data for name, data in desk.shown().items() if not name.endswith(".nfo")} == {
        f"{FILM}.mp4": desk.fetcher.content,
        f"{FILM}.en.vtt": b"WEBVTT\n",
        f"{FILM}-poster.jpg": b"a picture of thumb.webp",
        "talks/A Film (2024)/poster.jpg": b"a picture of thumb.webp",
    }
    assert b"<title>A Film</title>" in desk.shown()[f"{FILM}.nfo"]
    [extracted] = await desk.events(subject, DownloadExtracted)
    assert (extracted.title, extracted.media_id, extracted.attempt) == ("A Film", "x1", 1)
    assert [(one.part, one.format) for one in await desk.events(subject, DownloadPartFinished)] == [("both", "22")]
    assert [one.container for one in await desk.events(subject, DownloadMerged)] == ["mp4"]
    [stored] = await desk.events(subject, DownloadStored)
    assert stored.warnings == ("a warning",)
    assert state.path == str(desk.settings.downloads / f"{FILM}.mp4")
    assert len(state.files) == 4
    video = downloaded_video_id(state.key, 1)
    assert state.video == video
    [first] = await desk.events(video, VideoStored)
    assert (first.door, first.path, first.client_id, first.original_name) == ("download", state.path, "me", "A Film")
    sidecars = Sidecars(desk.settings.sidecars)
    assert not sidecars.any_pending()
    assert sidecars.get(video) is not None
    job = desk.studio.finish_jobs[0]
    assert job.tags["title"] == "A Film"
    assert job.tags["comment"] == "https://example.com/x1"
    assert desk.unfinished() == []
    listening.cancel()
    assert [(one.video, one.task, one.percent) for one in moved] == [(subject, "download", 50.0)]


async def test_sound_alone_is_asked_for_and_kept_as_such(desk: Desk) -> None:
    """The studio is told, and no film is looked into for a poster."""
    desk.studio.finishes = FinishedFile("m4a", "audio/mp4", 1.0, ())
    subject = await desk.ask(directory="/")
    async with desk.working():
        await desk.start(subject, audio_only=True, template="{uploader}/{title} [{id}]")
        state = await desk.reaches(subject, "stored")
    assert state.path == str(desk.settings.downloads / "Someone" / "A Film [x1].m4a")
    assert desk.studio.finish_jobs[0].audio_only
    assert "Someone/A Film [x1].jpg" in desk.shown(), "the folder is not the film's own"


# ---------------------------------------------------------------- interruptions


@pytest.mark.parametrize("stop", ["cancel", "delete"])
async def test_what_nobody_wants_any_more_stops_at_once(desk: Desk, stop: str) -> None:
    """Within two seconds the fetcher is closed, and nothing of it is left anywhere."""
    desk.fetcher.hold = asyncio.Event()
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        await eventually(lambda: desk.unfinished() and desk.fetcher.resumed)
        began = asyncio.get_running_loop().time()
        event = DownloadCancelled(take=1, reason="cancelled") if stop == "cancel" else DownloadDeleted(keep_file=False)
        await desk.tell(subject, event)
        await eventually(lambda: desk.fetcher.closed)
        assert asyncio.get_running_loop().time() - began < 2
        await eventually(lambda: not desk.unfinished())
        if stop == "delete":
            await eventually(lambda: desk.events(subject, DownloadFilesRemoved))
    assert desk.shown() == {}
    assert not await desk.events(subject, DownloadStored)


async def test_a_worker_that_stops_puts_it_off_and_the_next_goes_on_from_there(desk: Desk) -> None:
    """It costs no attempt, and what came in stays."""
    desk.fetcher.hold = asyncio.Event()
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        await eventually(lambda: desk.fetcher.resumed)
    off = await desk.postponed(subject)
    assert off.kind == "interrupted"
    assert off.until <= datetime.now(UTC)
    state = await desk.state(subject)
    assert (state.status, state.failures, state.message) == ("Pending", 0, "In-Queue")
    desk.fetcher.hold.set()
    async with desk.working("worker-2"):
        await desk.start(subject)
        await desk.reaches(subject, "stored")
    assert desk.fetcher.resumed == [0, len(desk.fetcher.content) // 2]
    assert desk.shown()[f"{FILM}.mp4"] == desk.fetcher.content


async def test_an_attempt_whose_worker_died_is_begun_anew_from_its_part_file(desk: Desk) -> None:
    """Said first, for an attempt that kills a worker each time must not be taken for this one."""
    subject = await desk.ask()
    state = await desk.state(subject)
    place = folder_of(desk.settings.data / "unfinished", 1, state.key)
    async with held(place, patience=0) as work:
        work.begin("1/1")
        (work.fetching(1) / "video.mp4.part").write_bytes(b"half")
    async with desk.working():
        await desk.start(subject)
        assert (await desk.postponed(subject)).kind == "interrupted"
        assert not desk.fetcher.jobs
        await desk.start(subject)
        await desk.reaches(subject, "stored")
    assert desk.fetcher.resumed == [4]


async def test_what_was_placed_before_its_worker_died_is_not_fetched_again(desk: Desk) -> None:
    """The log knows nothing of it yet: it is told, whether or not it is still wanted."""
    library = Library(desk.settings)
    wanted, unwanted = await desk.ask(1), await desk.ask(2)
    for number, subject in enumerate((wanted, unwanted), 1):
        state = await desk.state(subject)
        async with held(folder_of(prepared(desk.settings), number, state.key), patience=0) as work:
            video = downloaded_video_id(state.key, 1)
            library.place(video, ready(work, name=f"film {number}"), placed_event, work, Former())
        await desk.start(subject)
    await desk.tell(unwanted, DownloadDeleted(keep_file=False))
    async with desk.working():
        stored = await desk.reaches(wanted, "stored")
        await eventually(lambda: desk.events(unwanted, DownloadFilesRemoved))
        await eventually(lambda: not desk.unfinished())
    assert not desk.fetcher.jobs
    assert stored.video is not None
    assert len(await desk.events(stored.video, VideoStored)) == 1
    assert {Path(name).name for name in desk.shown()} == {
        "film 1.mp4", "film 1.nfo", "film 1.en.vtt", "film 1-poster.jpg", "poster.jpg",
    }  # fmt: skip


async def test_with_the_log_away_the_videos_own_event_follows(desk: Desk) -> None:
    """Its manifest waits for the reconciler; the download is stored all the same."""

    class Deaf:
        version, history = desk.log.version, desk.log.history

        async def append(self, *_: Any, **__: Any) -> None:
            raise LogUnavailableError("down")

    subject = await desk.ask()
    async with desk.working(log=Deaf()):
        await desk.start(subject)
        stored = await desk.reaches(subject, "stored")
    assert stored.video is not None
    assert not await desk.log.history(stored.video)
    assert await Reconciler(desk.log, desk.settings).append_pending() == 1
    assert [one.type for one in await desk.log.history(stored.video)] == ["VideoStored"]


# ---------------------------------------------------------------- failures


def failure(kind: str, **changes: Any) -> FetchFailure:
    """Why it is not there."""
    return FetchFailure(kind, f"it is {kind}", "do this", **changes)  # type: ignore[arg-type]


async def test_what_no_other_attempt_would_change_fails(desk: Desk) -> None:
    """In the site's own words, with what to do; nothing of it is left."""
    desk.fetcher.scripts = ((None, failure("private")),)
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        state = await desk.reaches(subject, "failed")
        await eventually(lambda: not desk.unfinished())
    assert (state.status, state.error, state.message) == ("Error", "private", "it is private do this")


async def test_what_may_do_better_later_is_put_off_until_enough_is_enough(desk: Desk) -> None:
    """The work folder stays in between."""
    desk.fetcher.scripts = ((page(), failure("server")),)
    subject = await desk.ask()
    async with desk.working():
        for attempt in (1, 2):
            await desk.start(subject)
            assert (await desk.postponed(subject, attempt)).kind == "retry"
            assert len(desk.unfinished()) == 1
        await desk.start(subject)
        state = await desk.reaches(subject, "failed")
    assert "tried 3 times" in state.message
    assert desk.fetcher.resumed == [0, *[len(desk.fetcher.content) // 2] * 2]


async def test_what_does_not_make_a_video_is_fetched_anew_once_and_then_given_up(desk: Desk) -> None:
    """What an earlier attempt left may be to blame; what came fresh is not going to change."""
    desk.studio.finishes = MediaFailure("no_video", "it is text")
    subject = await desk.ask()
    place = folder_of(desk.settings.data / "unfinished", 1, (await desk.state(subject)).key)
    async with held(place, patience=0) as work:
        (work.fetching(1) / "video.mp4.part").write_bytes(b"half")
    async with desk.working():
        await desk.start(subject)
        off = await desk.postponed(subject)
        assert (off.kind, "it is text" in off.reason) == ("retry", True)
        await desk.start(subject)
        state = await desk.reaches(subject, "failed")
    assert desk.fetcher.resumed == [4, 0]
    assert (state.error, state.message) == ("invalid", "it is text")
    assert desk.shown() == {}


async def test_a_full_disk_puts_it_off(desk: Desk, make_settings: Make) -> None:
    """Before anything is fetched, where that can be told."""
    desk.settings = make_settings(partitions=4, disk_low=2**60, disk_hard=2**60)
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        off = await desk.postponed(subject)
    assert off.kind == "no_space"
    assert "SPOOLHOUSE_DISK_HARD" in off.reason
    assert not desk.fetcher.jobs


async def test_a_media_root_that_cannot_be_written_puts_it_off(desk: Desk) -> None:
    """It is no fault of the download's."""
    desk.settings.downloads.parent.mkdir(parents=True)
    desk.settings.downloads.write_text("a file, and no folder")
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        off = await desk.postponed(subject)
    assert off.kind == "outage"
    assert (await desk.state(subject)).failures == 0


def standing(failures: int = 0, history: tuple[Any, ...] = (), **config: Any) -> Standing:
    """An attempt after others."""
    recorded = [Recorded(0, 0, "", type(one).__name__, "download:1", 0, NOW, "", None, "", one) for one in history]
    return Standing(1, 1, failures, recorded, DownloadConfig(**config), Settings(), NOW)


NOW = datetime(2024, 5, 6, tzinfo=UTC)


def wait_of(event: Any) -> float:
    """Seconds that it is put off for."""
    seconds: float = (event.until - NOW).total_seconds()
    return seconds


def test_waits_double_up_to_an_hour_and_servers_may_ask_for_more(clean_env: Path) -> None:
    """With jitter; never less than what was asked."""
    retry = Setback("limited", "slow down")
    for failures, seconds in ((0, 10), (1, 20), (3, 80)):
        assert 0.8 * seconds <= wait_of(standing(failures).outcome(retry)) <= 1.2 * seconds
    many = Standing(1, 1, 30, (), DownloadConfig(), Settings(download_attempts=99), NOW)
    assert 0.8 * 3600 <= wait_of(many.outcome(retry)) <= 1.2 * 3600
    assert wait_of(standing().outcome(Setback("limited", "slow", retry_after=500.0))) == 500
    assert isinstance(standing(7).outcome(retry), DownloadFailed)


def test_a_stream_that_has_not_begun_is_waited_for_where_that_is_wanted(clean_env: Path) -> None:
    """Until it begins; one that should have begun is looked at ever less often; else it fails and says the setting."""
    begins = NOW + timedelta(hours=3)
    waiting = standing(wait_for_live=True).outcome(Setback("scheduled", "not yet", begins=begins))
    assert isinstance(waiting, DownloadPostponed)
    assert (waiting.kind, waiting.until) == ("scheduled", begins)
    late = Setback("scheduled", "not yet", begins=NOW - timedelta(hours=1))
    assert wait_of(standing(wait_for_live=True).outcome(late)) == 60
    assert wait_of(standing(history=(waiting,) * 3, wait_for_live=True).outcome(late)) == 480
    refused = standing().outcome(late)
    assert isinstance(refused, DownloadFailed)
    assert (refused.kind, "SPOOLHOUSE_DOWNLOAD_WAIT_FOR_LIVE" in refused.advice) == ("live", True)


# ---------------------------------------------------------------- what was fetched before


async def test_what_another_download_fetched_is_skipped_while_it_is_there(desk: Desk) -> None:
    """By extractor and id; a refresh fetches it all the same, and one whose file is gone."""
    one, two, three = [await desk.ask(number) for number in (1, 2, 3)]
    async with desk.working():
        await desk.start(one)
        stored = await desk.reaches(one, "stored")
        assert stored.video is not None
        assert stored.path is not None
        desk.known.stored["Site x1"] = Stored(1, stored.video, stored.path)
        await desk.start(two)
        skipped = await desk.reaches(two, "skipped")
        assert (skipped.status, skipped.duplicate_of, skipped.path) == ("Downloaded", 1, stored.path)
        assert [one.number for one in await desk.events(two, DownloadSkipped)] == [1]
        await eventually(lambda: not desk.unfinished())
        Path(stored.path).unlink()
        await desk.start(three)
        await desk.reaches(three, "stored")


async def test_a_refresh_replaces_what_was_there(desk: Desk) -> None:
    """Under the same name, as another video; what the new one lacks goes, and the old video is told to be gone."""
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        before = await desk.reaches(subject, "stored")
        await desk.tell(subject, DownloadRefreshed(take=2))
        desk.fetcher.content = b"the same film, better"
        desk.fetcher.scripts = ((page(description="Other."), None),)
        await desk.start(subject)
        await eventually(lambda: desk.events(subject, DownloadFilesRemoved))
    after = await desk.state(subject)
    assert after.path == before.path
    assert after.video == downloaded_video_id(after.key, 2) != before.video
    assert desk.shown()[f"{FILM}.mp4"] == b"the same film, better"
    assert b"Other." in desk.shown()[f"{FILM}.nfo"]
    assert len(desk.shown()) == 5
    assert before.video is not None
    assert [one.relative for one in await desk.events(before.video, FileRemoved)] == [f"{FILM}.mp4"]
    [removed] = await desk.events(subject, DownloadFilesRemoved)
    assert (removed.take, removed.paths) == (1, ())


async def test_a_refresh_under_another_title_takes_the_old_files_away(desk: Desk) -> None:
    """Once the new ones are there."""
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        before = await desk.reaches(subject, "stored")
        await desk.tell(subject, DownloadRefreshed(take=2))
        desk.fetcher.scripts = ((page("Renamed"), None),)
        await desk.start(subject)
        await eventually(lambda: desk.events(subject, DownloadFilesRemoved))
    assert {name.split("/")[1] for name in desk.shown()} == {"Renamed (2024)"}
    [removed] = await desk.events(subject, DownloadFilesRemoved)
    assert set(removed.paths) == {before.path, *before.files}


@pytest.mark.parametrize("keep", [False, True])
async def test_deleting_removes_the_files_unless_they_are_to_be_kept(desk: Desk, keep: bool) -> None:
    """And tells the video's history; files of others in the folder stay."""
    subject = await desk.ask()
    async with desk.working():
        await desk.start(subject)
        stored = await desk.reaches(subject, "stored")
        (desk.settings.downloads / "talks" / "mine.txt").write_text("mine")
        await desk.tell(subject, DownloadDeleted(keep_file=keep))
        if not keep:
            await eventually(lambda: desk.events(subject, DownloadFilesRemoved))
    assert stored.video is not None
    assert len(desk.shown()) == (6 if keep else 1)
    assert len(await desk.events(stored.video, FileRemoved)) == (0 if keep else 1)
    assert (Sidecars(desk.settings.sidecars).get(stored.video) is None) == (not keep)
    assert (desk.settings.downloads / "talks" / "A Film (2024)").exists() == keep


# ---------------------------------------------------------------- lists


def entries(count: int) -> tuple[ListEntry, ...]:
    """Entries of a list."""
    return tuple(ListEntry(f"https://example.com/e{n}", f"Site e{n}", f"Entry {n}") for n in range(count))


async def test_a_list_becomes_a_download_for_each_of_its_entries(desk: Desk) -> None:
    """In its order; what is there already is passed over, and a limit that cut it is said."""
    desk.fetcher.scripts = ((None, Listed("Series", entries(3), 7, more=True)),)
    path = desk.settings.downloads / "e1.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"there")
    desk.known.stored = {
        "Site e1": Stored(40, "v", OsPath(str(path))),
        "Site e2": Stored(41, "w", OsPath(str(path.with_name("gone.mp4")))),
    }
    subject = await desk.ask(1000, options={"max_height": 720}, client_id="me", subscription=5)
    async with desk.working():
        await desk.start(subject, limit=3)
        state = await desk.reaches(subject, "expanded")
        await eventually(lambda: not desk.unfinished())
    [told] = await desk.events(subject, DownloadExpanded)
    assert (told.title, told.entries, told.more, told.limit, told.skipped) == ("Series", 7, True, 3, (40,))
    assert len(told.numbers) == 2
    children = [await desk.state(download_subject(number)) for number in told.numbers]
    assert [(one.url, one.title, one.entry) for one in children] == [
        ("https://example.com/e0", "Entry 0", "Site e0"),
        ("https://example.com/e2", "Entry 2", "Site e2"),
    ]
    assert {(one.parent, one.directory, one.client_id, one.subscription) for one in children} == {
        (1000, "/talks", "me", 5)
    }
    assert all(one.options == {"max_height": 720} for one in children)
    assert "higher limit" in state.message


async def test_the_entries_of_a_list_are_asked_for_once(desk: Desk) -> None:
    """Whoever died in the middle does it again to the same effect; a refresh leaves those that are still open alone."""
    desk.fetcher.scripts = (
        (None, Listed("Series", entries(2), 2, more=False)),
        (None, Listed("Series", entries(3), 3, more=False)),
    )
    subject = await desk.ask(1000)
    async with desk.working():
        await desk.start(subject)
        first = await desk.reaches(subject, "expanded")
        desk.known.numbers += first.numbers
        await desk.tell(subject, DownloadRefreshed(take=2))
        await desk.start(subject)
        second = await desk.reaches(subject, "expanded")
    assert second.numbers[:2] == first.numbers
    assert second.numbers[2] not in first.numbers


async def test_lists_within_lists_come_to_an_end(desk: Desk) -> None:
    """A page that lists itself, directly or through others, is no endless work."""
    desk.fetcher.scripts = ((None, Listed("Loop", (ListEntry("https://example.com/1000", None, ""),), 1, more=False)),)
    subject = await desk.ask(1000)
    parent = 1000
    async with desk.working():
        await desk.start(subject)
        assert (await desk.reaches(subject, "failed")).error == "unsupported"
        for number in (1001, 1002, 1003):
            deeper = await desk.ask(number, parent=parent)
            parent = number
        desk.fetcher.scripts = ((None, Listed("Deep", entries(1), 1, more=False)),)
        await desk.start(deeper)
        assert (await desk.reaches(deeper, "failed")).error == "unsupported"
