"""The history that a person reads: runs in one row, words for everything, nothing that is private."""

from __future__ import annotations

import random
from typing import Any

import pytest

from projections import timeline as module
from projections.summaries import MAX_SUMMARY, summary
from projections.timeline import history
from streams.events import EVENTS
from tests.projections.conftest import World, applied
from tests.projections.copying import Copied
from tests.streams.golden_files import example


async def told(world: World, subject: str) -> list[tuple[str, int, int, int]]:
    """(type, ver, last_ver, events) of a subject's rows."""
    rows = await history(world.database, subject)
    return [(row["type"], row["ver"], row["last_ver"], row["events"]) for row in rows]


async def test_a_run_of_chunks_is_one_row(world: World) -> None:
    """Told by the newest; another event in between begins another run."""
    one = Copied(await world.happenings.upload(1), size=9500)
    copying = world.happenings.copying
    async with world.running("timeline") as runner:
        await copying.begin(one)
        for index in range(6):
            await copying.chunks(one, index, index)
            await applied(runner)
        await copying.attempt_failed(one, "replicate")
        await copying.chunks(one, 6, 9)
        await copying.complete(one)
        await applied(runner)
        assert await told(world, one.id) == [
            ("VideoStored", 1, 1, 1),
            ("ReplicationStarted", 2, 2, 1),
            ("ChunkUploaded", 3, 8, 6),
            ("AttemptFailed", 9, 9, 1),
            ("ChunkUploaded", 10, 13, 4),
            ("ReplicationCompleted", 14, 14, 1),
        ]
        run = (await history(world.database, one.id))[2]
        assert run["summary"] == "Chunks up to number 5 are in the object store (to 0.01 MB)"
        assert run["data"]["index"] == 5
        events = await world.log.history(one.id)
        assert (run["id"], run["pos"], run["time"]) == (events[2].id, events[2].pos, events[2].time)
        assert run["last_time"] == events[7].time
        # Whoever has read up to the middle of a run is given it again, since it went on.
        assert [row["ver"] for row in await history(world.database, one.id, after=5, limit=2)] == [3, 9]
        assert [row["ver"] for row in await history(world.database, one.id, after=8)] == [9, 10, 14]


async def test_a_run_of_offsets_ends_with_its_session(world: World) -> None:
    """And another file's is another run."""
    one = Copied(await world.happenings.upload(1))
    copying = world.happenings.copying
    async with world.running("timeline") as runner:
        await copying.drive_begin(one)
        await copying.drive_reach(one, 1000)
        await copying.drive_reach(one, 2000)
        await copying.drive_session(one)
        await copying.drive_reach(one, 1000)
        one.files = 2
        await copying.drive_begin(one)
        await copying.drive_reach(one, 3000)
        await applied(runner)
    assert [(kind, count) for kind, *_, count in await told(world, one.id)] == [
        ("VideoStored", 1),
        ("DriveUploadStarted", 1),
        ("DriveSessionOpened", 1),
        ("DriveOffsetReached", 2),
        ("DriveSessionOpened", 1),
        ("DriveOffsetReached", 1),
        ("DriveUploadStarted", 1),
        ("DriveSessionOpened", 1),
        ("DriveOffsetReached", 1),
    ]


@pytest.mark.parametrize("batch", [1, 3, 2000])
async def test_runs_do_not_depend_on_how_batches_were_cut(
    world: World, batch: int, monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    """Small batches, restarts, several videos at once: the rebuilt timeline is the live one."""
    monkeypatch.setattr("projections.follower.BATCH", batch)
    copying = world.happenings.copying
    made = [Copied(await world.happenings.upload(n), size=40_000) for n in range(3)]
    for one in made:
        await copying.begin(one)
    at = dict.fromkeys((one.id for one in made), 0)
    for _ in range(2):
        async with world.running("timeline") as runner:
            for _ in range(12):
                one = rng.choice(made)
                last = min(39, at[one.id] + rng.randrange(3))
                await copying.chunks(one, at[one.id], last)
                at[one.id] = last
                if rng.random() < 0.2:
                    await copying.attempt_failed(one, "replicate")
            await applied(runner)
    async with world.running("timeline") as runner:
        await applied(runner)
        rows = await world.rows("timeline", "1, 2")
        assert not any((await runner.rebuild(compare=True)).values())
    assert sum(row["events"] for row in rows) == sum([len(await world.log.history(one.id)) for one in made])
    for one in made:
        kinds = [kind for kind, *_ in await told(world, one.id)]
        assert "ChunkUploaded ChunkUploaded" not in " ".join(kinds)


async def test_what_a_run_goes_on_from_is_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More subjects than are remembered: the newest row is read."""
    asked: list[Any] = []
    read = module._last_rows

    async def look(conn: Any, tables: Any, events: Any) -> Any:
        tables.cache.clear()
        asked.append(len(events))
        return await read(conn, tables, events)

    monkeypatch.setattr(module, "_last_rows", look)
    one = Copied(await world.happenings.upload(1), size=9500)
    async with world.running("timeline") as runner:
        for index in range(4):
            await world.happenings.copying.chunks(one, index, index)
            await applied(runner)
    assert len(asked) > 1
    assert await told(world, one.id) == [("VideoStored", 1, 1, 1), ("ChunkUploaded", 2, 5, 4)]


async def test_what_is_private_is_written_down_nowhere(world: World) -> None:
    """Whoever has a session's address may upload."""
    one = Copied(await world.happenings.upload(1))
    async with world.running() as runner:
        await world.happenings.copying.drive(one)
        await applied(runner)
    for table in ("timeline", "replicas", "catalogue"):
        assert "secret" not in str(await world.rows(table))
    assert "secret" not in (world.settings.logs / "video_uploads.log").read_text()


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_has_its_words(name: str) -> None:
    """In one line that does not begin with the name of a class."""
    words = summary(example(EVENTS[name]))
    assert "\n" not in words
    assert 0 < len(words) <= MAX_SUMMARY
    if name not in {"NumbersReserved", "VideoNumbered"}:  # the registry's, shown to no one
        assert not words.startswith(name)
