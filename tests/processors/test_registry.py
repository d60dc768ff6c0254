"""The numbers of the legacy table, where the log lost what it knew of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from processors.registry import Registry
from processors.watching.comparing import Changes, Found, Settle
from processors.watching.knowing import Index
from processors.watching.registering import Registrar
from streams.errors import GateClosedError
from streams.events import FileSettled, NumbersReserved, VideoNumbered, VideoProbeFailed
from streams.identity import REGISTRY, watched_video_id
from streams.log import Log, new_event, open_log
from streams.paths import OsPath
from streams.queries import LegacyRow
from streams.settings import Settings
from tests.servers import RedisServer

ROOT = "/videos"


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """An open log whose registry hands out 1 next."""
    async with open_log(settings, redis_url) as opened:
        await opened.append(new_event(REGISTRY, NumbersReserved(through=0), source="test"))
        yield opened


class Rows:
    """A `videos` table that someone else keeps."""

    def __init__(self, *rows: tuple[LegacyRow, str | None]) -> None:
        self.rows = list(rows)

    async def foreign_rows(self) -> list[LegacyRow]:
        return [row for row, video in self.rows if video is None]

    async def all_rows(self) -> list[tuple[LegacyRow, str | None]]:
        return self.rows


def files(*names: str) -> Changes:
    """New files."""
    return Changes(settled=[Settle(name, Found(1, 2, 3, hash(name) % 2**40), None, 1, 0) for name in names])


async def register(registrar: Registrar, *names: str) -> None:
    await registrar.register(files(*names), dict.fromkeys(names, "scan"))


async def numbers(log: Log) -> dict[str, int]:
    """The numbers of the files that are settled, by path."""
    found = {}
    for partition in range(log.partitions):
        for entry in await log.read(partition):
            if entry.fields[b"type"] == b"FileSettled":
                [event] = [e.event for e in await log.history(entry.fields[b"subject"].decode()) if e.pos == entry.pos]
                found[event.relative] = event.number
    return found


async def test_two_roots_number_side_by_side(log: Log, settings: Settings) -> None:
    """Each number is handed out once, in whichever order they come; a repeat gets the same."""
    one, other = (Registrar(log, settings, root, Index()) for root in (ROOT, "/more"))
    await register(one, "a.mp4", "b.mp4")
    await register(other, "c.mp4", "d.mp4")
    await register(one, "e.mp4", "f.mp4")
    again = Registrar(log, settings, ROOT, Index())
    await register(again, "g.mp4", "a.mp4", "h.mp4", "e.mp4", "i.mp4")
    found = await numbers(log)
    assert sorted(found.values()) == list(range(1, 10))
    assert (found["a.mp4"], found["e.mp4"]) == (1, 5)


async def test_no_number_of_a_lost_tail_is_handed_out_again(
    log: Log, settings: Settings, redis_server: RedisServer
) -> None:
    """The registry is shorter than it was: its next numbers belong to others until it is put right."""
    registrar = Registrar(log, settings, ROOT, Index())
    await register(registrar, "a.mp4", "b.mp4")
    redis_server.flush()
    await log.prepare()
    await log.append(new_event(REGISTRY, NumbersReserved(through=0), source="test"))
    with pytest.raises(GateClosedError, match="lost its tail"):
        await register(registrar, "c.mp4")
    assert await log.version(REGISTRY) == 1


async def test_a_new_source_asks_what_the_catalogue_knows(log: Log, settings: Settings) -> None:
    """Whoever begins on a log that lost its tail knows no version; the files that are known have numbers."""
    registrar = Registrar(log, settings, ROOT, Index())
    await register(registrar, "a.mp4")
    [known] = registrar.index.there()
    known.number = 7
    with pytest.raises(GateClosedError, match="lost its tail"):
        await register(Registrar(log, settings, ROOT, Index([known])), "b.mp4")


async def test_numbers_that_only_their_files_know_are_given_back(log: Log, settings: Settings) -> None:
    """A file was settled when Redis came back, with a number that the registry had lost by then."""
    video = watched_video_id(ROOT, "late.mp4")
    event = FileSettled(
        root=OsPath(ROOT),
        relative=OsPath("late.mp4"),
        number=4,
        revision=1,
        size=1,
        modified_ns=2,
        device=3,
        inode=4,
        generation=0,
        settled_by="scan",
    )
    await log.append(new_event(video, event, source="watch"))
    row = LegacyRow(number=1, main_dir=ROOT, path=f"{ROOT}/a.mp4", url=None, status=1, created=None)
    await Registry(log, Rows((row, "some-video")), [ROOT]).restore()
    history = await log.history(REGISTRY)
    assert [one.event.video for one in history if isinstance(one.event, VideoNumbered)] == [
        "some-video",
        "row:2",
        "row:3",
        video,
    ]
    await register(Registrar(log, settings, ROOT, Index()), "b.mp4")
    assert await numbers(log) == {"late.mp4": 4, "b.mp4": 5}


async def test_what_only_a_processor_wrote_down_keeps_no_row_from_its_video(log: Log, settings: Settings) -> None:
    """The tail was lost while a video was probed: the result stands alone in the log."""
    row = LegacyRow(number=1, main_dir=ROOT, path=f"{ROOT}/a.mp4", url=None, status=1, created=None)
    adopted, fresh = (watched_video_id(ROOT, name) for name in ("a.mp4", "b.mp4"))
    for video in (adopted, fresh):
        await log.append(new_event(video, VideoProbeFailed(revision=1, reason="?"), source="probe"))
    await Registry(log, Rows((row, adopted)), [ROOT]).restore()
    assert [one.type for one in await log.history(adopted)] == ["VideoProbeFailed", "RowAdopted"]
    await register(Registrar(log, settings, ROOT, Index()), "b.mp4")
    assert [one.type for one in await log.history(fresh)] == ["VideoProbeFailed", "FileSettled"]
    assert await numbers(log) == {"b.mp4": 2}


async def test_a_row_with_an_absurd_id_costs_nothing(log: Log) -> None:
    """Given a row of someone else's far above ours, when the registry opens, then numbers go on where they were."""
    rows = Rows(
        (LegacyRow(5, None, "/theirs/near.mp4", None, 1, None), None),
        (LegacyRow(2_000_000_000, None, "/theirs/far.mp4", None, 1, None), None),
    )
    assert await Registry(log, rows, [ROOT]).open() == 2
    assert await log.version(REGISTRY) == 6  # the reservation, and five numbers that are not ours


async def test_an_empty_registry_reserves_what_is_taken(settings: Settings, redis_url: str) -> None:
    """Given a table that was there before, when the registry opens first, then new numbers begin above it, at once."""
    rows = Rows((LegacyRow(2_000_000, None, "/theirs/last.mp4", None, 1, None), None))
    async with open_log(settings, redis_url) as log:
        await Registry(log, rows, [ROOT]).open()
        history = await log.history(REGISTRY)
    assert [one.event for one in history] == [NumbersReserved(through=2_000_000)]
