"""Renditions: what is made when, what becomes of failures, and that a repeat makes nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from processors.lineages import Lineages
from processors.ports import MediaFailure
from processors.reconciling import Reconciler
from processors.storage.renditions import LINEAGE
from processors.wishes import wish_of
from streams.events import (
    EnhancementCompleted,
    EnhancementFailed,
    FileRemoved,
    VideoOffloaded,
    VideoStored,
)
from streams.log import Log, open_log
from streams.paths import OsPath
from streams.settings import Settings
from tests.processors.enhancing import StudioDouble, ask_for, at_work, ended, made, of_type
from tests.processors.replicating import new_video, settled, stored, tell, types
from tests.streams.driving import eventually

Make = Callable[..., Settings]


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """A log on an empty Redis."""
    async with open_log(settings, redis_url) as opened:
        yield opened


def upload(path: Path, **changes: Any) -> VideoStored:
    """An upload that asks for a rendition."""
    event = stored(path)
    fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
    return VideoStored(**{**fields, "enhance": True, **changes})


@pytest.fixture
def film(settings: Settings) -> Path:
    """A file that nobody looks into here."""
    settings.uploads.mkdir(parents=True)
    path = settings.uploads / "20241112_143052_film.avi"
    path.write_bytes(b"a film")
    return path


# ---------------------------------------------------------------- what is wanted


def test_what_came_to_be_enhanced_is_and_the_rest_by_rule(make_settings: Make, tmp_path: Path) -> None:
    """Doors are a setting; a rendition is never made of a rendition."""
    path = tmp_path / "film.avi"
    path.write_bytes(b"x")
    plain, asked = stored(path), upload(path)
    rendition = upload(path, door="rendition", enhance=False)
    quiet, rule = make_settings(), make_settings(enhance_doors="watch,upload", enhance_preset="small", hls=True)
    off = make_settings(enhance="off", enhance_doors="watch")
    assert wish_of(plain, quiet) is None
    assert wish_of(settled(path), quiet) is None
    assert wish_of(asked, quiet) == wish_of(asked, off)
    for event in (plain, asked, settled(path)):
        wish = wish_of(event, rule)
        assert wish is not None
        assert (wish.preset, wish.hls) == ("small", True)
    assert wish_of(rendition, rule) is None
    assert wish_of(settled(path), off) is None


# ---------------------------------------------------------------- the way it goes


async def test_a_rendition_is_stored_and_has_a_history_of_its_own(log: Log, settings: Settings, film: Path) -> None:
    """Its file, lineage and events; what was sent is untouched."""
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert isinstance(end, EnhancementCompleted)
    [rendition] = await of_type(log, video, "RenditionStored")
    assert await types(log, video) == ["VideoStored", "EnhancementStarted", "RenditionStored", "EnhancementCompleted"]
    assert end.renditions == (rendition.rendition,)
    path = Path(rendition.path)
    assert path.parent == settings.processed
    assert path.name.startswith(f"{video}_r1_web-")
    assert path.suffix == ".mp4"
    assert path.stat().st_size == rendition.size == len(path.read_bytes())
    assert rendition.source_sha256 == stored(film).sha256
    assert film.read_bytes() == b"a film"
    assert await Reconciler(log, settings).append_pending() == 1
    [own] = await of_type(log, rendition.rendition, "VideoStored")
    assert (own.door, own.rendition_of, own.path, own.sha256) == ("rendition", video, rendition.path, rendition.sha256)
    assert not list((settings.processed / ".incoming").iterdir())


async def test_a_repeat_makes_nothing_twice(log: Log, settings: Settings, film: Path) -> None:
    """The same preset again finds the file; another preset makes another one."""
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await ended(log, video)
        await ask_for(log, video)
        await ended(log, video, 2)
        assert len(studio.jobs) == 1
        await ask_for(log, video, "small")
        await ended(log, video, 3)
    assert len(studio.jobs) == 2
    assert len(await of_type(log, video, "RenditionStored")) == 2
    assert len(list(settings.processed.glob("*.mp4"))) == 2


async def test_one_that_was_kept_before_anyone_could_say_so_is_told(log: Log, settings: Settings, film: Path) -> None:
    """As after a kill between the file and its event."""
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await ended(log, video)
    [told] = await of_type(log, video, "RenditionStored")
    await log.redis.flushall()
    async with open_log(settings, url_of(log)) as again:
        await tell(again, video, upload(film))
        async with at_work(again, settings, studio):
            await ended(again, video)
        [again_told] = await of_type(again, video, "RenditionStored")
    assert again_told == told
    assert len(studio.jobs) == 1


async def test_one_whose_file_is_gone_is_made_again_under_another_id(log: Log, settings: Settings, film: Path) -> None:
    """What the log says of the first stays true of the first."""
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await ended(log, video)
        [first] = await of_type(log, video, "RenditionStored")
        Path(first.path).unlink()
        await ask_for(log, video)
        await ended(log, video, 2)
    first, second = await of_type(log, video, "RenditionStored")
    assert first.rendition != second.rendition
    assert Path(second.path).read_bytes().startswith(b"a rendition")


async def test_one_that_was_given_up_on_purpose_counts_as_there(log: Log, settings: Settings, film: Path) -> None:
    """Its copies are whole: it is restored, not made again."""
    from processors.storage.offloads import FileIdentity, Offload
    from processors.storage.sidecars import Sidecars
    from streams.log import new_event

    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await ended(log, video)
        [kept] = await of_type(log, video, "RenditionStored")
        await Reconciler(log, settings).append_pending()
        gone = VideoOffloaded(revision=1, path=kept.path, size=kept.size, replicas=("s3",), offload=1)
        new = new_event(kept.rendition, gone, source="test")
        identity = FileIdentity.of(Path(kept.path).stat())
        history = await log.history(kept.rendition)
        Sidecars(settings.sidecars).offloads.write(Offload.of(kept.path, identity, history, new))
        Path(kept.path).unlink()
        await ask_for(log, video)
        await ended(log, video, 2)
    assert len(studio.jobs) == 1


async def test_a_ladder_has_no_rung_above_the_source(log: Log, make_settings: Make, sample_videos: list[Path]) -> None:
    """bikes.mp4 has 272 rows: of 480, 240 and 144 the lower two are made, each with its playlist."""
    settings = make_settings(hls_ladder="480,240,144")
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(sample_videos[1]))
    async with at_work(log, settings, studio):
        await ask_for(log, video, hls=True)
        await ended(log, video, 2)
    assert [(job.kind, job.height) for job in studio.jobs] == [("progressive", None), ("hls", 240), ("hls", 144)]
    rungs = [one for one in await of_type(log, video, "RenditionStored") if one.kind == "hls"]
    for rung, job in zip(rungs, studio.jobs[1:], strict=True):
        assert rung.playlist is not None
        assert Path(rung.playlist).read_text() == f"#EXTM3U\n{rung.rendition}.mp4\n"
        assert job.media_name == f"{rung.rendition}.mp4"


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "kind", ["unreadable", "no_video", "too_large", "unencodable", "timeout", "stalled", "memory", "crashed"]
)
async def test_a_failure_of_the_file_is_a_fact(log: Log, settings: Settings, film: Path, kind: Any) -> None:
    """Said once, with the reason; nothing half made is left."""
    video, studio = new_video(), StudioDouble([MediaFailure(kind, "because")])
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert end == EnhancementFailed(revision=1, preset="web", reason="because")
    assert not list((settings.processed / ".incoming").iterdir())
    assert not list(settings.processed.glob("*.mp4"))


async def test_a_process_that_was_killed_is_followed_by_another(log: Log, settings: Settings, film: Path) -> None:
    """Kill -9 is no fault of the file."""
    video, studio = new_video(), StudioDouble([MediaFailure("killed", "it was killed"), made()])
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert isinstance(end, EnhancementCompleted)
    assert [one.reason for one in await of_type(log, video, "AttemptFailed")] == ["it was killed"]
    assert len(await of_type(log, video, "RenditionStored")) == 1


async def test_one_that_kills_its_process_every_time_fails(log: Log, make_settings: Make, film: Path) -> None:
    """After as many tries as the settings allow."""
    settings = make_settings(attempts=2)
    video, studio = new_video(), StudioDouble([MediaFailure("killed", "it was killed")])
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert isinstance(end, EnhancementFailed)
    assert len(await of_type(log, video, "AttemptFailed")) == 1
    assert len(studio.jobs) == 2


async def test_work_that_filled_the_disk_is_tried_again_but_not_for_ever(
    log: Log, settings: Settings, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill it each time: it has as many tries as any other."""
    monkeypatch.setattr("processors.media_failures.ROOM_AGAIN", 0.2)
    video, studio = new_video(), StudioDouble([MediaFailure("disk_full", "no space left"), made()])
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert isinstance(end, EnhancementCompleted)
    assert len(studio.jobs) == 2
    assert [one.reason for one in await of_type(log, video, "AttemptFailed")] == ["no space left"]


async def test_a_worker_that_stops_ends_the_work_and_another_does_it(log: Log, make_settings: Make, film: Path) -> None:
    """SIGTERM does not wait for a film that will not have ended by then."""
    settings = make_settings(drain=1)
    video, studio = new_video(), StudioDouble(hold=asyncio.Event())
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await eventually(lambda: studio.jobs)
        await eventually(lambda: of_type(log, video, "EnhancementStarted"))
    assert studio.closed == 1
    assert not list((settings.processed / ".incoming").iterdir())
    other = StudioDouble()
    async with at_work(log, settings, other, member="worker-2"):
        assert isinstance(await ended(log, video), EnhancementCompleted)
    assert len(await of_type(log, video, "EnhancementStarted")) == 1


async def test_work_that_nearly_ended_may_end(log: Log, settings: Settings, film: Path) -> None:
    """Half of it took a moment, so the other half will: the worker that stops waits for it."""
    video, hold = new_video(), asyncio.Event()
    studio = StudioDouble(hold=hold)
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio) as host:
        await eventually(lambda: of_type(log, video, "EnhancementStarted"))
        draining = asyncio.create_task(host.drain())
        await eventually(host.handling.draining.is_set)
        hold.set()
        await draining
    assert [len(await of_type(log, video, name)) for name in ("RenditionStored", "EnhancementCompleted")] == [1, 1]


async def test_a_rendition_of_other_content_is_not_taken_for_that_of_this(
    log: Log, settings: Settings, tmp_path: Path
) -> None:
    """A log that lost everything may count another content as the first: what was made of the former stays its own."""
    film = tmp_path / "film.avi"
    film.write_bytes(b"first content")
    video, studio = new_video(), StudioDouble()
    await tell(log, video, settled(film))
    await ask_for(log, video)
    async with at_work(log, settings, studio):
        await ended(log, video)
    [first] = await of_type(log, video, "RenditionStored")
    await log.redis.flushall()
    film.write_bytes(b"second content")
    async with open_log(settings, url_of(log)) as again:
        await tell(again, video, settled(film))
        assert await Lineages(again, settings).reappend_all() == 0
        await ask_for(again, video)
        async with at_work(again, settings, studio):
            await ended(again, video)
        [second] = await of_type(again, video, "RenditionStored")
    assert first.rendition != second.rendition
    assert len(studio.jobs) == 2


async def test_a_file_that_is_written_again_blocks_nothing(log: Log, make_settings: Make, tmp_path: Path) -> None:
    """What is wanted of it is wanted of what it will be: its next revision goes its way at once."""
    settings = make_settings(enhance_doors="watch")
    film = tmp_path / "film.avi"
    film.write_bytes(b"first content")
    video, studio = new_video(), StudioDouble()
    await tell(log, video, settled(film))
    film.write_bytes(b"second content")
    async with at_work(log, settings, studio):
        await tell(log, video, settled(film, 2))
        end = await ended(log, video)
    assert isinstance(end, EnhancementCompleted)
    assert end.revision == 2
    assert not await of_type(log, video, "AttemptFailed")


async def test_a_request_for_what_is_gone_has_an_answer(log: Log, settings: Settings, tmp_path: Path) -> None:
    """Somebody waits for it."""
    film = tmp_path / "film.avi"
    film.write_bytes(b"a film")
    video, studio = new_video(), StudioDouble()
    await tell(log, video, settled(film))
    await ask_for(log, video)
    await tell(log, video, FileRemoved(root=OsPath(str(tmp_path)), relative=OsPath("film.avi")))
    async with at_work(log, settings, studio):
        end = await ended(log, video)
    assert end.reason == "the file was removed"
    assert not studio.jobs


async def test_a_file_that_changes_meanwhile_is_done_anew(log: Log, settings: Settings, tmp_path: Path) -> None:
    """Of a watched file the newer revision counts; whoever asked for the older one is told."""
    film = tmp_path / "film.avi"
    film.write_bytes(b"first")
    video, hold = new_video(), asyncio.Event()
    studio = StudioDouble(hold=hold)
    await tell(log, video, settled(film))
    await ask_for(log, video)
    async with at_work(log, settings, studio):
        await eventually(lambda: studio.jobs)
        film.write_bytes(b"second content")
        await tell(log, video, settled(film, 2))
        hold.set()
        await ask_for(log, video, revision=2)
        assert isinstance(await ended(log, video), EnhancementFailed)
        end = await ended(log, video, 2)
    assert (end.revision, len(await of_type(log, video, "RenditionStored"))) == (2, 1)


async def test_switched_off_and_unknown_presets_are_said(log: Log, make_settings: Make, film: Path) -> None:
    """With what to do about it."""
    off, video = make_settings(enhance="off"), new_video()
    await tell(log, video, upload(film))
    async with at_work(log, off, StudioDouble()):
        end = await ended(log, video)
        assert "SPOOLHOUSE_ENHANCE=off" in end.reason
        await ask_for(log, video, "gone")
        assert "there is no preset 'gone'" in (await ended(log, video, 2)).reason
        await ask_for(log, video)
        assert isinstance(await ended(log, video, 3), EnhancementCompleted)


async def test_a_broken_lineage_counts_for_nothing(log: Log, settings: Settings, film: Path) -> None:
    """The rendition is made again, beside the file that nobody can explain."""
    video, studio = new_video(), StudioDouble()
    await tell(log, video, upload(film))
    async with at_work(log, settings, studio):
        await ended(log, video)
        [lineage] = (settings.processed / LINEAGE).iterdir()
        lineage.write_bytes(b"{")
        await ask_for(log, video)
        assert isinstance(await ended(log, video, 2), EnhancementCompleted)
    assert len(studio.jobs) == 2


def url_of(log: Log) -> str:
    """Where a log's Redis listens."""
    where = log.redis.connection_pool.connection_kwargs
    return f"redis://{where['host']}:{where['port']}/{where.get('db', 0)}"
