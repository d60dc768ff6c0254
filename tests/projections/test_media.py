"""How work on videos stands: a row for each, and what is asked of it."""

from __future__ import annotations

from typing import Any

from projections.media_queries import media_in
from projections.queries import Catalogue
from streams.events import PreviewsFailed, VideoProbeFailed
from streams.media import MediaOf
from tests.projections.conftest import World, applied
from tests.projections.enhancing import (
    DOCUMENT,
    attempt_failed,
    completed,
    failed,
    parked,
    previews,
    probed,
    rendition,
    requested,
    started,
)


async def media_of(world: World, video: str) -> MediaOf:
    """What the table says; the video's history says the same."""
    found = await Catalogue(world.database).media(video)
    assert found is not None
    assert found == media_in(await world.log.history(video), previews=world.settings.previews)
    return found


async def told(world: World, video: str) -> dict[str, tuple[str, str | None]]:
    """Status and error of each task."""
    return {task: (state.status, state.error) for task, state in (await media_of(world, video)).tasks.items()}


async def test_a_video_waits_for_what_is_done_with_every_one(world: World) -> None:
    """Reading and pictures; enhancement only where its sender asked for it."""
    async with world.running("media") as runner:
        plain = await world.happenings.upload(1)
        asked = await world.happenings.upload(2, enhance=True, client_id="me", original_name="Ferien äöü.avi")
        watched = await world.happenings.settle("sub/back\\slash.mkv")
        await applied(runner)
        waits = {"metadata-extraction": ("queued", None), "previews": ("queued", None)}
        assert await told(world, plain) == waits
        assert await told(world, asked) == {**waits, "video-enhancement": ("queued", None)}
        assert await told(world, watched.id) == waits
        found = await media_of(world, asked)
        assert (found.client_id, found.filename, found.revision) == ("me", "Ferien äöü.avi", 1)
        assert {state.ver for state in found.tasks.values()} == {1}
        assert (await media_of(world, watched.id)).filename == "back\\\\slash.mkv"


async def test_nobody_waits_for_pictures_where_none_are_made(world: World) -> None:
    """The setting is part of what the rows were made with: changed, they are built anew."""
    projection = world.projections("media")[0]
    without = type(projection)(world.settings.model_copy(update={"previews": False}))
    assert projection.fingerprint() != without.fingerprint()
    async with world.running("media") as runner:
        video = await world.happenings.upload(1)
        await applied(runner)
        history = await world.log.history(video)
        found = media_in(history, previews=False)
        assert found is not None
        assert set(found.tasks) == {"metadata-extraction"}


async def test_enhancement_from_the_request_to_the_renditions(world: World) -> None:
    """Queued, processing with the reason, completed; renditions newest first, each once."""
    say = world.happenings.say
    async with world.running("media") as runner:
        video = await world.happenings.upload(1)
        await say(video, requested(preset="small"))
        await applied(runner)
        state = (await media_of(world, video)).tasks["video-enhancement"]
        assert (state.status, state.ver) == ("queued", 2)
        assert "small" in state.message
        await say(video, started())
        await applied(runner)
        state = (await media_of(world, video)).tasks["video-enhancement"]
        assert state.status == "processing"
        assert "mpeg4 in avi does not play in browsers" in state.message
        web, rung = rendition(video), rendition(video, "rung", kind="hls", playlist="/data/p\udcff.m3u8")
        for event in (web, rung, rendition(video, sha256="f" * 64)):
            await say(video, event)
        await say(video, completed(web.rendition, rung.rendition))
        await applied(runner)
        found = await media_of(world, video)
        assert found.tasks["video-enhancement"].status == "completed"
        assert [(one.id, one.sha256[0]) for one in found.renditions] == [(web.rendition, "f"), (rung.rendition, "e")]
        # Paths are as `os` takes them.
        assert found.renditions[0].path == web.path
        assert found.renditions[1].playlist == rung.playlist
        playable = found.playable()
        assert playable is not None
        assert playable.id == web.rendition


async def test_metadata_and_pictures(world: World) -> None:
    """The document as the event had it, the pictures' places as `os` takes them."""
    async with world.running("media") as runner:
        video = await world.happenings.upload(1)
        await world.happenings.say(video, probed(damaged="its end is missing"))
        await world.happenings.say(video, previews())
        await applied(runner)
        found = await media_of(world, video)
        assert found.metadata == DOCUMENT
        assert "its end is missing" in found.tasks["metadata-extraction"].message
        assert found.previews is not None
        assert found.previews.poster == "/data/previews/bad\udcff/poster.jpg"
        assert found.tasks["previews"].status == "completed"


async def test_failures_and_what_becomes_of_them(world: World) -> None:
    """Failed for good with the reason; tried again: queued, and when; given up: failed, and how to go on."""
    say = world.happenings.say
    async with world.running("media") as runner:
        one, other = await world.happenings.upload(1), await world.happenings.upload(2)
        for event in (failed("no picture decodes"), VideoProbeFailed(revision=1, reason="no moov atom")):
            await say(one, event)
        await say(one, PreviewsFailed(revision=1, reason="black"))
        for group in ("enhance", "probe", "previews", "drive", "replicate"):
            await say(other, attempt_failed(group, 2))
        await applied(runner)
        assert await told(world, one) == {
            "video-enhancement": ("failed", "no picture decodes"),
            "metadata-extraction": ("failed", "no moov atom"),
            "previews": ("failed", "black"),
        }
        states = (await media_of(world, other)).tasks
        assert {(state.status, state.error) for state in states.values()} == {("queued", "the child was killed")}
        assert all("tried again at 14:30:52 UTC" in state.message for state in states.values())
        await say(other, parked("enhance"))
        await applied(runner)
        state = (await media_of(world, other)).tasks["video-enhancement"]
        assert (state.status, state.error) == ("failed", "out of memory")
        assert "spoolhouse parked" in state.message
        await say(other, requested())
        await applied(runner)
        state = (await media_of(world, other)).tasks["video-enhancement"]
        assert (state.status, state.error) == ("queued", None)


async def test_new_content_begins_anew(world: World) -> None:
    """Nothing that was made of the former is shown, whenever word of it comes."""
    say = world.happenings.say
    async with world.running("media") as runner:
        one = await world.happenings.settle("a.mkv")
        for event in (probed(), previews(), rendition(one.id), completed()):
            await say(one.id, event)
        await world.happenings.replace(one, 77)
        await say(one.id, rendition(one.id, "late"))
        await say(one.id, failed("late"))
        await applied(runner)
        found = await media_of(world, one.id)
        assert (found.revision, found.renditions, found.previews, found.metadata) == (2, (), None, None)
        assert {task: state.status for task, state in found.tasks.items()} == {
            "metadata-extraction": "queued",
            "previews": "queued",
        }
        await world.happenings.move(one, "moved/b.mkv")
        await applied(runner)
        assert (await media_of(world, one.id)).filename == "b.mkv"


async def test_a_rendition_has_no_row(world: World) -> None:
    """Whatever is done with it: it is part of the video that it was made of."""
    async with world.running("media") as runner:
        video = await world.happenings.upload(1)
        made = await world.happenings.upload(2, door="rendition", rendition_of=video)
        await world.happenings.say(made, probed())
        await applied(runner)
        assert [row["id"] for row in await world.rows("media")] == [video]
        assert await Catalogue(world.database).media(made) is None
        assert media_in(await world.log.history(made), previews=True) is None


async def test_a_clients_videos_newest_first(world: World) -> None:
    """Its own, so many at the most; or everyone's. Names that MySQL takes for equal are told apart."""
    catalogue = Catalogue(world.database, world.log)
    async with world.running("media") as runner:
        for n, client in enumerate(("me", "you", "me ", "me", None, "x" * 128, "me")):
            await world.happenings.upload(n, client_id=client, enhance=n == 6)
        await applied(runner)

        async def names(client: str, limit: int = 10, **how: Any) -> list[str]:
            return [one.video[-1] for one in await catalogue.media_of_client(client, limit, **how)]

        assert await names("me") == ["6", "3", "0"]
        assert await names("me", 2) == ["6", "3"]
        assert await names("me ") == ["2"]
        assert await names("x" * 128) == ["5"]
        assert await names("x" * 10_000) == []
        assert await names("", everyone=True) == ["6", "5", "4", "3", "2", "1", "0"]
        some = await catalogue.media_of([f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 6, 9)])
        assert sorted(video[-1] for video in some) == ["1", "6"]
        assert await catalogue.media_positions() == await world.log.heads()


async def test_where_there_are_no_tables_yet(world: World) -> None:
    """No position: whoever goes on from it reads the log from its start, or waits."""
    assert await Catalogue(world.database).media_positions() is None


async def test_what_is_kept_is_bounded(world: World) -> None:
    """A hundred renditions; a message is a line."""
    async with world.running("media") as runner:
        video = await world.happenings.upload(1, original_name="x" * 5000)
        for n in range(130):
            await world.happenings.say(video, rendition(video, f"n{n}"))
        await world.happenings.say(video, started(reason="r" * 50_000))
        await world.happenings.say(video, failed("f" * 50_000))
        await applied(runner)
        found = await media_of(world, video)
        assert len(found.renditions) == 100
        assert found.renditions[0].preset == "n129"
        assert len(found.filename) == 1024
        assert len(found.tasks["video-enhancement"].error or "") == 4000
