"""A row for each copy elsewhere: how far it is, whether it is whole, what is wrong with it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from processors.copies import fold
from projections.queries import Catalogue, Filters
from projections.replicas import ReplicasProjection
from streams.codec import Recorded
from streams.events import Event
from streams.queries import Replicas, VideoCopies
from streams.settings import Settings
from tests.projections.conftest import World, applied
from tests.projections.copying import STORE, Copied, Copying
from tests.projections.happenings import SINCE, stored

VIDEO = "00000000-0000-4000-8000-000000000001"


async def copy_of(world: World, one: Copied, replica: str) -> dict[str, Any]:
    """The row, with every projection's work done."""
    (row,) = [row for row in await world.rows("replicas") if (row["video"], row["replica"]) == (one.id, replica)]
    return row


async def uploaded(world: World, n: int = 1) -> tuple[Copied, Copying]:
    """A video, and what may happen to its copies."""
    return Copied(await world.happenings.upload(n)), world.happenings.copying


async def test_a_copy_grows_and_is_complete(world: World) -> None:
    """Chunk by chunk, in whatever order they are answered; then whole, then verified."""
    async with world.running("replicas") as runner:
        one, copying = await uploaded(world)
        await copying.begin(one)
        for index in (1, 0, 2):
            await copying.chunks(one, index, index)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["reached"], row["size"], row["target"]) == ("started", 3000, 3500, one.stream)
        assert (row["store"], row["chunk_size"], row["completed"]) == (STORE, 1000, None)
        await copying.chunks(one, 3, 3)
        await copying.complete(one)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["reached"], row["chunks"], row["sha256"]) == ("complete", 3500, 4, "c" * 64)
        assert row["completed"] is not None
        assert row["verified"] is None
        await copying.verify(one, "s3", deep=True)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert row["verified"] is not None
        assert row["verified_deep"] in (True, 1)


async def test_damage_takes_the_verification_back_and_repair_the_damage(world: World) -> None:
    """A repaired copy is complete; verified it is once it was looked at again."""
    async with world.running("replicas") as runner:
        one, copying = await uploaded(world)
        await copying.replicate(one)
        await copying.verify(one, "s3")
        await copying.verify(one, "s3", whole=False)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["verified"], row["fault"]) == ("damaged", None, "chunk_000001.bin is not there")
        await copying.chunks(one, 1, 1)
        await copying.repair(one, "s3")
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["verified"], row["fault"]) == ("complete", None, None)


async def test_a_failure_shows_until_it_goes_on(world: World) -> None:
    """Failed attempts, parked entries and episodes of Drive; what is complete is not called failed."""
    async with world.running("replicas") as runner:
        one, copying = await uploaded(world)
        await copying.attempt_failed(one, "replicate")
        await copying.attempt_failed(one, "probe")
        await copying.drive_fail(one, "Could not initialize Drive service")
        await applied(runner)
        assert len(await world.rows("replicas")) == 2
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["revision"], row["target"], row["fault"]) == ("failed", 0, "", "403 Forbidden")
        row = await copy_of(world, one, "drive")
        assert (row["state"], row["episode"], row["target"]) == ("failed", 1, "")
        assert row["fault"] == "Could not initialize Drive service"
        await copying.begin(one)
        await copying.park(one, "replicate")
        await copying.drive_begin(one)
        await applied(runner)
        assert (await copy_of(world, one, "s3"))["state"] == "failed"
        assert (await copy_of(world, one, "drive"))["state"] == "started"
        await copying.chunks(one, 0, 3)
        await copying.complete(one)
        await copying.attempt_failed(one, "replicate")
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["fault"]) == ("complete", None)


async def test_drive_begins_anew_when_a_session_expires(world: World) -> None:
    """The offset is that of the newest session; the link comes with the end."""
    async with world.running("replicas") as runner:
        one, copying = await uploaded(world)
        await copying.drive_begin(one)
        await copying.drive_reach(one, 2000)
        await copying.drive_session(one)
        await copying.drive_reach(one, 1000)
        await applied(runner)
        row = await copy_of(world, one, "drive")
        assert (row["state"], row["reached"], row["target"], row["link"]) == ("started", 1000, one.file_id, None)
        await copying.drive_complete(one)
        await applied(runner)
        row = await copy_of(world, one, "drive")
        assert (row["state"], row["reached"], row["md5"]) == ("complete", 3500, "d" * 32)
        assert row["link"] == f"https://drive.google.com/file/d/{one.file_id}/view"


async def test_the_row_tells_of_the_newest_revision(world: World) -> None:
    """What is heard of an older stream changes nothing any more."""
    async with world.running("replicas") as runner:
        one, copying = await uploaded(world)
        await copying.replicate(one)
        newer = Copied(one.id, revision=2, size=2000)
        await copying.begin(newer)
        await copying.chunks(newer, 0, 0)
        await copying.verify(one, "s3")
        await copying.abandon(one)
        await copying.complete(one)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["revision"], row["reached"]) == ("started", 2, 1000)
        assert (row["completed"], row["verified"]) == (None, None)
        await copying.abandon(newer)
        await applied(runner)
        row = await copy_of(world, one, "s3")
        assert (row["state"], row["fault"]) == ("abandoned", "the file was replaced")


async def test_what_is_sent_of_a_growing_file_is_no_copy_yet(world: World) -> None:
    """It has no row in the catalogue either."""
    async with world.running("replicas", "catalogue") as runner:
        await world.happenings.copying.grow(Copied("11111111-0000-4000-8000-000000000001"))
        await applied(runner)
        assert await world.rows("replicas") == await world.rows("catalogue") == []


async def test_the_rows_say_what_the_fold_of_processors_says(rng: random.Random, settings: Settings) -> None:
    """Whatever happens, in any order: both read the same history, and must agree on what is whole."""
    projection = ReplicasProjection(settings)
    for _ in range(150):
        history = await anything(rng, times=30)
        rows: dict[str, Any] = {}
        for recorded in history:
            if projection.wants(recorded) and (key := projection.key(recorded)):
                rows[key] = projection.fold(rows.get(key), recorded)
        facts = fold(history)
        copies: list[tuple[str, Any]] = [("s3", facts.stream()), ("drive", facts.drive_copy())]
        for replica, copy in copies:
            row = rows.get(f"{VIDEO}/{replica}")
            if copy is None:
                assert row is None or row["state"] in {"failed", "abandoned"}, (row, history)
                continue
            assert row is not None
            assert row["target"] == (copy.id if replica == "s3" else copy.file_id), (row, history)
            assert (copy.completed is None) == (row["completed"] is None), (row, history)
            assert (copy.verified is None) == (row["verified"] is None), (row, history)
            if copy.completed is not None:
                assert row["state"] == ("damaged" if copy.damaged else "complete"), (row, history)


async def anything(rng: random.Random, times: int) -> list[Recorded[Any]]:
    """A random history of one upload, as the log would give it."""
    history: list[Recorded[Any]] = []

    async def say(subject: str, event: Event, source: str) -> None:
        if subject == VIDEO:
            at, place = SINCE + timedelta(seconds=len(history)), len(history) + 1
            history.append(
                Recorded(0, place, str(place), type(event).__name__, subject, place, at, source, None, "", event)
            )

    copying, one = Copying(say, rng), Copied(VIDEO)
    await say(VIDEO, stored(1)[1], "upload")
    for _ in range(times):
        one.files = rng.choice((one.files, one.files, one.files, rng.randrange(1, 4)))
        await copying.anything(one)
    return history


# ---------------------------------------------------------------- what is asked


@pytest.fixture
async def four(world: World) -> list[Copied]:
    """In both places; under way; replaced since; nowhere. All applied."""
    made = [(await uploaded(world, n))[0] for n in range(4)]
    copying = world.happenings.copying
    await copying.replicate(made[0])
    await copying.verify(made[0], "s3", deep=True)
    await copying.drive(made[0])
    await copying.begin(made[1])
    await copying.chunks(made[1], 0, 1)
    await copying.replicate(made[2])
    subject, again = world.happenings.stored(2, revision=2)
    await world.happenings.say(subject, again)
    async with world.running("replicas", "catalogue") as runner:
        await applied(runner)
    return made


async def test_lists_tell_of_the_copies(world: World, four: list[Copied]) -> None:
    """With each video, the object store first; percent of what is under way."""
    catalogue = Catalogue(world.database, world.log)
    page = await catalogue.list(descending=False)
    told = [[(copy["replica"], copy["state"], copy["progress"]) for copy in row["replicas"]] for row in page.videos]
    assert told == [
        [("s3", "complete", 100), ("drive", "complete", 100)],
        [("s3", "started", 57)],
        [("s3", "outdated", 100)],
        [],
    ]
    found = await catalogue.get(four[0].id)
    assert found is not None
    s3, drive = found["replicas"]
    assert (s3["target"], s3["store"], s3["verified_deep"]) == (four[0].stream, STORE, True)
    assert s3["verified"].tzinfo is not None
    assert drive["link"].startswith("https://drive.google.com/file/d/")
    named = await catalogue.by_filename(found["stored_name"])
    assert named is not None
    assert named["replicas"] == found["replicas"]


async def test_what_is_not_copied_yet_can_be_asked_for(world: World, four: list[Copied]) -> None:
    """A whole copy of the current content counts."""
    catalogue = Catalogue(world.database, world.log)

    async def found(**filters: Any) -> list[int]:
        page = await catalogue.list(Filters(**filters), descending=False)
        return [[one.id for one in four].index(row["id"]) for row in page.videos]

    assert await found(replica="s3", copied=True) == [0]
    assert await found(replica="s3", copied=False) == [1, 2, 3]
    assert await found(replica="drive", copied=False) == [1, 2, 3]
    assert await found(replica="s3") == [0, 1, 2]
    assert await found(copied=True) == [0]
    assert await found(copied=False) == [1, 2, 3]


async def test_all_videos_are_gone_through_with_their_copies(world: World, four: list[Copied]) -> None:
    """For verification and retention: narrowed by state, door and age, each once."""
    replicas: Replicas = Catalogue(world.database, world.log)

    async def found(**narrowed: Any) -> list[VideoCopies]:
        return [video async for video in replicas.copies(**narrowed)]

    everything = await found()
    assert [video.id for video in everything] == [one.id for one in four]
    first = everything[0]
    assert (first.door, first.state, first.size, first.revision, first.created) == ("upload", "present", 1000, 1, SINCE)
    s3 = first.copy("s3")
    assert s3 is not None
    assert (s3.state, s3.target, s3.verified_deep) == ("complete", four[0].stream, True)
    assert s3.completed is not None
    assert s3.verified is not None
    assert s3.completed <= s3.verified
    assert everything[2].copy("s3") is None
    assert everything[2].replicas[0].revision == 1
    assert [video.id for video in await found(created_before=everything[2].created)] == [one.id for one in four[:2]]
    assert await found(state="offloaded") == await found(door="download") == []


async def test_going_through_all_takes_page_after_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal times are told apart by id."""
    monkeypatch.setattr("projections.copy_queries.PAGE", 7)
    catalogue = Catalogue(world.database, world.log)
    async with world.running("replicas", "catalogue") as runner:
        for n in range(20):
            await world.happenings.upload(n, received_at=SINCE)
        await applied(runner)
        assert await catalogue.copies_caught_up(10)
    found = [video.id async for video in catalogue.copies()]
    assert found == sorted(world.happenings.uploads)


async def test_just_after_an_upgrade_lists_go_on(world: World) -> None:
    """The table of copies is not made yet: what is known of the videos is shown."""
    async with world.running("catalogue") as runner:
        await world.happenings.upload(1)
        await applied(runner)
    (row,) = (await Catalogue(world.database).list()).videos
    assert row["replicas"] == []
