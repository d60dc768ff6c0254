"""A watched folder on a real disk, with real inotify and a real log."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from processors.watching.holds import confirm_hold, held_roots, reject_hold
from processors.watching.roots import WatchedRoot
from streams.errors import NotFoundError
from streams.events import RootReleased, RowAdopted, VideoProbed
from streams.identity import REGISTRY, watched_video_id
from streams.log import new_event, open_log
from streams.paths import escape_path
from streams.settings import Settings
from tests.processors.folding import all_events
from tests.processors.watched import Watched, settled_events, until, write

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(make_settings: Callable[..., Settings], root: Path) -> Settings:
    return make_settings(watch=(root,), watch_still_after=0.3, watch_poll_interval=0.2, partitions=4)


@pytest.fixture
async def watched(redis_url: str, settings: Settings, root: Path) -> AsyncIterator[Watched]:
    async with open_log(settings, redis_url) as log:
        made = Watched(log, settings, root)
        await made.reserve()
        yield made


def again_with(watched: Watched, **changes: object) -> Watched:
    """The same log and root under other settings."""
    return Watched(watched.log, watched.settings.model_copy(update=changes), watched.root)


# ---------------------------------------------------------------- files that come


async def test_files_that_were_there_at_start_appear(watched: Watched, root: Path):
    write(root / "clip.mp4")
    write(root / "deep" / "er" / "CLIP.MKV")
    write(root / "notes.txt")
    async with watched.running():
        known = await watched.becomes("clip.mp4", "deep/er/CLIP.MKV")
    assert {file.number for file in known.values()} == {1, 2}
    assert known["clip.mp4"].id == watched_video_id(str(root), "clip.mp4")
    assert await watched.root_types() == ["RootRegistered"]


async def test_a_slowly_written_file_appears_once_and_only_when_closed(watched: Watched, root: Path):
    async with watched.running():
        await watched.ready()
        with open(root / "slow.mp4", "wb") as file:
            for _ in range(15):
                file.write(b"x" * 1000)
                file.flush()
                await asyncio.sleep(0.05)
                assert "slow.mp4" not in await watched.present()
        known = await until(lambda: of(watched, "slow.mp4"))
    assert known.size == 15_000 and known.revision == 1
    assert await watched.types(known.id) == ["FileSettled"]


async def of(watched: Watched, relative: str):
    file = (await watched.known()).get(relative)
    return file if file and file.present else None


async def test_a_file_that_stays_open_for_long_appears_soon_after_it_is_closed(watched: Watched, root: Path):
    async with watched.running():
        await watched.ready()
        with open(root / "long.mp4", "wb") as file:
            file.write(b"x")
            file.flush()
            await asyncio.sleep(1.5)
            assert "long.mp4" not in await watched.present()
        closed = time.monotonic()
        await until(lambda: of(watched, "long.mp4"))
        assert time.monotonic() - closed < 3


async def test_half_of_all_files_appear_within_100_ms_of_closing(watched: Watched, root: Path):
    """The issue's promise, with room for a busy machine: measured p50 is printed."""
    delays = []
    async with watched.running():
        await watched.ready()
        for index in range(25):
            with open(root / f"{index}.mp4", "wb") as file:
                for _ in range(5):
                    file.write(b"x" * 10_000)
                    file.flush()
                    await asyncio.sleep(0.01)
            closed = time.monotonic()
            subject = watched_video_id(str(root), f"{index}.mp4")
            await until(lambda subject=subject: watched.log.version(subject))
            delays.append(time.monotonic() - closed)
    print(f"closed to appended: p50 {statistics.median(delays) * 1000:.0f} ms, max {max(delays) * 1000:.0f} ms")
    assert statistics.median(delays) < 0.1


async def test_files_and_folders_that_are_moved_in_appear(watched: Watched, root: Path, tmp_path: Path):
    write(tmp_path / "outside" / "one.mp4")
    write(tmp_path / "folder" / "sub" / "two.mov")
    write(tmp_path / "folder" / "three.avi")
    async with watched.running():
        await watched.ready()
        os.rename(tmp_path / "outside" / "one.mp4", root / "one.mp4")
        os.rename(tmp_path / "folder", root / "folder")
        await watched.becomes("one.mp4", "folder/sub/two.mov", "folder/three.avi")


async def test_new_folders_are_watched(watched: Watched, root: Path):
    async with watched.running():
        await watched.ready()
        for index in range(5):
            write(root / f"day {index}" / "a" / "b" / "clip.mp4")
        names = {f"day {index}/a/b/clip.mp4" for index in range(5)}
        await until(lambda: includes(watched, names))
        write(root / "day 3" / "a" / "later.mp4")
        await until(lambda: includes(watched, {"day 3/a/later.mp4"}))


async def includes(watched: Watched, names: set[str]) -> bool:
    return names <= await watched.present()


async def test_temporary_and_hidden_names_never_appear(watched: Watched, root: Path):
    async with watched.running():
        await watched.ready()
        for name in ("a.mp4.part", "b.tmp", "c.mp4.crdownload", "d.mp4.!qB", ".e.mp4", "f.mp4~", ".Trash-0/g.mp4"):
            write(root / name)
        write(root / "h.mp4")
        await until(lambda: includes(watched, {"h.mp4"}))
        os.rename(root / "a.mp4.part", root / "a.mp4")
        await watched.becomes("a.mp4", "h.mp4")


async def test_a_name_that_is_not_utf8_is_kept_byte_for_byte(watched: Watched, root: Path):
    name = os.fsdecode(b"caf\xe9.mp4")
    async with watched.running():
        await watched.ready()
        write(root / name)
        await until(lambda: includes(watched, {name}))
        write(root / "and on it goes.mp4")
        known = await watched.becomes(name, "and on it goes.mp4")
    assert escape_path(known[name].relative) == "caf\\xe9.mp4"


async def test_an_empty_file_waits_for_its_content(watched: Watched, root: Path):
    async with watched.running():
        await watched.ready()
        (root / "touched.mp4").touch()
        write(root / "whole.mp4")
        await until(lambda: includes(watched, {"whole.mp4"}))
        write(root / "touched.mp4")
        known = await watched.becomes("whole.mp4", "touched.mp4")
    assert known["touched.mp4"].revision == 1 and known["touched.mp4"].size > 0


async def test_fifos_sockets_and_folders_with_video_names_do_no_harm(watched: Watched, root: Path):
    os.mkfifo(root / "fifo.mp4")
    write(root / "folder.mp4" / "in it.mp4")
    async with watched.running():
        await watched.becomes("folder.mp4/in it.mp4")
        os.mkfifo(root / "another.mp4")
        write(root / "real.mp4")
        await watched.becomes("folder.mp4/in it.mp4", "real.mp4")


async def test_symbolic_links_do_not_escape(watched: Watched, root: Path, tmp_path: Path):
    outside = write(tmp_path / "outside" / "secret.mp4")
    write(root / "real" / "clip.mp4")
    (root / "link.mp4").symlink_to(root / "real" / "clip.mp4")
    (root / "folder").symlink_to(root / "real")
    (root / "loop").symlink_to(root)
    (root / "out.mp4").symlink_to(outside)
    (root / "away").symlink_to(outside.parent)
    (root / "broken.mp4").symlink_to(root / "nowhere")
    inside = {"real/clip.mp4", "link.mp4", "folder/clip.mp4"}
    async with watched.running():
        await watched.becomes(*inside)
        write(outside.parent / "another.mp4")
        write(root / "real" / "later.mp4")
        await watched.becomes(*inside, "real/later.mp4", "folder/later.mp4")


async def test_a_linked_folder_inside_is_watched_under_both_names(watched: Watched, root: Path):
    write(root / "real" / "clip.mp4")
    (root / "folder").symlink_to(root / "real")
    async with watched.running() as source:
        await watched.becomes("real/clip.mp4", "folder/clip.mp4")
        assert not source._listening.polling
        write(root / "real" / "later.mp4")
        await watched.becomes("real/clip.mp4", "folder/clip.mp4", "real/later.mp4", "folder/later.mp4")


async def test_numbers_begin_above_those_of_older_rows(redis_url: str, settings: Settings, root: Path):
    write(root / "clip.mp4")
    async with open_log(settings, redis_url) as log:
        watched = Watched(log, settings, root)
        async with watched.running():
            await watched.reserve(41)
            known = await watched.becomes("clip.mp4")
    assert known["clip.mp4"].number == 42


async def test_an_adopted_row_keeps_its_number_when_its_file_settles(watched: Watched, root: Path):
    id = watched_video_id(str(root), "old.mp4")
    row = RowAdopted(number=7, main_dir=str(root), path=str(root / "old.mp4"), url=None, status=1, created=None)
    await watched.log.append(new_event(id, row, source="test"))
    write(root / "old.mp4")
    async with watched.running():
        known = await watched.becomes("old.mp4")
    assert (known["old.mp4"].id, known["old.mp4"].number) == (id, 7)
    assert await watched.types(id) == ["RowAdopted", "FileSettled"]
    assert await watched.log.version(REGISTRY) == 1


async def test_a_path_longer_than_the_column_is_refused(
    watched: Watched, root: Path, capsys: pytest.CaptureFixture[str]
):
    folder = root
    for _ in range(5):
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    (folder / "long.mp4").write_text("x")
    write(root / "short.mp4")
    async with watched.running():
        await watched.becomes("short.mp4")
        write(root / "later.mp4")
        await watched.becomes("short.mp4", "later.mp4")
    assert capsys.readouterr().out.count("file refused") == 1


# ---------------------------------------------------------------- files that change


async def test_a_rename_is_a_move_of_the_same_video(watched: Watched, root: Path):
    write(root / "a.mp4")
    write(root / "folder" / "b.mp4")
    async with watched.running():
        before = await watched.becomes("a.mp4", "folder/b.mp4")
        os.rename(root / "a.mp4", root / "folder" / "renamed.mp4")
        await watched.becomes("folder/renamed.mp4", "folder/b.mp4")
        os.rename(root / "folder", root / "elsewhere")
        after = await watched.becomes("elsewhere/renamed.mp4", "elsewhere/b.mp4")
    assert after["elsewhere/renamed.mp4"].id == before["a.mp4"].id
    assert after["elsewhere/b.mp4"].id == before["folder/b.mp4"].id
    assert await watched.types(before["a.mp4"].id) == ["FileSettled", "FileMoved", "FileMoved"]
    assert await watched.log.version(REGISTRY) == 3


async def test_a_new_file_where_a_moved_one_was_is_another_video(watched: Watched, root: Path):
    write(root / "a.mp4")
    async with watched.running():
        before = await watched.becomes("a.mp4")
        os.rename(root / "a.mp4", root / "b.mp4")
        await watched.becomes("b.mp4")
        write(root / "a.mp4", "another")
        after = await watched.becomes("a.mp4", "b.mp4")
    assert after["b.mp4"].id == before["a.mp4"].id != after["a.mp4"].id
    assert after["a.mp4"].number == 2


@pytest.mark.parametrize("how", ["rename over", "in place"])
async def test_replaced_content_is_the_same_video_at_its_next_revision(watched: Watched, root: Path, how: str):
    write(root / "a.mp4")
    write(root / "other.mp4")
    async with watched.running():
        before = await watched.becomes("a.mp4", "other.mp4")
        if how == "rename over":
            os.rename(write(root / "a.tmp", "another content"), root / "a.mp4")
        else:
            with open(root / "a.mp4", "wb") as file:
                for _ in range(4):
                    file.write(b"another content")
                    file.flush()
                    await asyncio.sleep(0.05)
        await until(lambda: at_revision(watched, "a.mp4", 2))
        after = await watched.becomes("a.mp4", "other.mp4")
    assert after["a.mp4"].id == before["a.mp4"].id
    assert await watched.types(before["a.mp4"].id) == ["FileSettled", "FileSettled"]


async def at_revision(watched: Watched, relative: str, revision: int) -> bool:
    file = await of(watched, relative)
    return file is not None and file.revision == revision


async def test_what_processors_write_in_between_does_not_confuse(watched: Watched, root: Path):
    """A probe's event raises the video's version: the next revision is appended all the same."""
    write(root / "a.mp4")
    write(root / "b.mp4")
    probed = VideoProbed(
        revision=1, container="mp4", duration=1.0, width=2, height=2, video_codec="h264", audio_codec=None,
        frame_rate=None, bit_rate=None, size=3,
    )  # fmt: skip
    async with watched.running():
        known = await watched.becomes("a.mp4", "b.mp4")
        id = known["a.mp4"].id
        await watched.log.append(new_event(id, probed, source="probe"))
        write(root / "a.mp4", "longer than it was before")
        await until(lambda: at_revision(watched, "a.mp4", 2))
        await watched.log.append(new_event(id, probed, source="probe again"))
        os.rename(root / "a.mp4", root / "c.mp4")
        await watched.becomes("b.mp4", "c.mp4")
        await watched.log.append(new_event(id, probed, source="and again"))
        (root / "c.mp4").unlink()
        await watched.becomes("b.mp4")
    types = [name for name in await watched.types(id) if name != "VideoProbed"]
    assert types == ["FileSettled", "FileSettled", "FileMoved", "FileRemoved"]


async def test_deleted_then_the_same_file_back_then_another(watched: Watched, root: Path, tmp_path: Path):
    write(root / "stays.mp4")
    write(root / "a.mp4")
    async with watched.running():
        before = (await watched.becomes("stays.mp4", "a.mp4"))["a.mp4"]
        os.rename(root / "a.mp4", tmp_path / "kept.mp4")
        await watched.becomes("stays.mp4")
        os.rename(tmp_path / "kept.mp4", root / "a.mp4")
        back = (await watched.becomes("stays.mp4", "a.mp4"))["a.mp4"]
        assert back.id == before.id
        assert await watched.types(before.id) == ["FileSettled", "FileRemoved", "FileReturned"]
        (root / "a.mp4").unlink()
        await watched.becomes("stays.mp4")
        write(root / "a.mp4", "a different one")
        other = (await watched.becomes("stays.mp4", "a.mp4"))["a.mp4"]
    assert other.id == watched_video_id(str(root), "a.mp4", 1) != before.id
    assert (other.generation, other.number) == (1, 3)


async def test_the_only_file_of_a_root_may_be_deleted(watched: Watched, root: Path):
    write(root / "a.mp4")
    async with watched.running():
        await watched.becomes("a.mp4")
        (root / "a.mp4").unlink()
        await watched.becomes()
    assert await watched.root_types() == ["RootRegistered"]


# ---------------------------------------------------------------- restarts


async def test_a_restart_with_nothing_new_appends_nothing(watched: Watched, root: Path):
    for index in range(50):
        write(root / f"{index % 7}" / f"{index}.mp4")
    async with watched.running():
        await watched.becomes(*(f"{index % 7}/{index}.mp4" for index in range(50)))
    before = await watched.count()
    async with watched.running() as source:
        await until(lambda: answers(source._look is not None))
    assert await watched.count() == before


async def answers(value: object) -> object:
    return value


async def test_what_happened_while_it_was_down_is_found(watched: Watched, root: Path):
    for name in ("stays", "moved", "replaced", "deleted"):
        write(root / f"{name}.mp4")
    async with watched.running():
        before = await watched.becomes("stays.mp4", "moved.mp4", "replaced.mp4", "deleted.mp4")
    os.makedirs(root / "sub")
    os.rename(root / "moved.mp4", root / "sub" / "moved.mp4")
    write(root / "replaced.mp4", "something else")
    (root / "deleted.mp4").unlink()
    write(root / "new.mp4")
    async with watched.running():
        after = await watched.becomes("stays.mp4", "sub/moved.mp4", "replaced.mp4", "new.mp4")
    assert after["sub/moved.mp4"].id == before["moved.mp4"].id
    assert after["replaced.mp4"].revision == 2
    assert not after["deleted.mp4"].present


async def test_a_file_half_written_at_start_waits(watched: Watched, root: Path):
    with open(root / "growing.mp4", "wb") as file:
        file.write(b"half")
        file.flush()
        write(root / "whole.mp4")
        async with watched.running():
            await watched.becomes("whole.mp4")
            file.write(b" and half")
            file.close()
            known = await watched.becomes("whole.mp4", "growing.mp4")
    assert known["growing.mp4"].size == 13 and known["growing.mp4"].revision == 1


async def test_events_that_were_dropped_are_made_good_by_a_rescan(
    watched: Watched, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The watcher loses everything for a while, as it does when the kernel's queue overflows."""
    watched = again_with(watched, watch_rescan_interval=1.0)
    async with watched.running() as source:
        await watched.ready()
        for name in ("appeared", "changed", "went"):
            monkeypatch.setattr(source, name, lambda _: None)
        source._listening._hearer = source
        source._listening._other.set()
        write(root / "lost.mp4")
        await until(lambda: includes(watched, {"lost.mp4"}))
        write(root / "lost too.mp4")
        await until(lambda: includes(watched, {"lost too.mp4"}))
    assert "events were dropped" in capsys.readouterr().out


@as_root
async def test_a_folder_that_may_not_be_read_stops_nothing(
    watched: Watched, public_folder: Path, capsys: pytest.CaptureFixture[str]
):
    root = public_folder
    watched = Watched(watched.log, watched.settings, root)
    write(root / "locked" / "a.mp4")
    write(root / "open" / "b.mp4")
    async with watched.running():
        await watched.becomes("locked/a.mp4", "open/b.mp4")
    (root / "locked").chmod(0)
    os.seteuid(65534)
    try:
        async with watched.running():
            await until(lambda: answers("folder cannot be read" in capsys.readouterr().out))
            os.seteuid(0)
            write(root / "open" / "c.mp4").chmod(0o644)
            os.seteuid(65534)
            await watched.becomes("locked/a.mp4", "open/b.mp4", "open/c.mp4")
    finally:
        os.seteuid(0)
        (root / "locked").chmod(0o755)


async def test_polling_finds_the_same(watched: Watched, root: Path):
    watched = again_with(watched, watch_force_polling=True)
    async with watched.running() as source:
        write(root / "a.mp4")
        write(root / "b.mp4")
        before = await watched.becomes("a.mp4", "b.mp4")
        assert source._listening.polling
        os.rename(root / "a.mp4", root / "c.mp4")
        after = await watched.becomes("b.mp4", "c.mp4")
        assert after["c.mp4"].id == before["a.mp4"].id
        (root / "b.mp4").unlink()
        await watched.becomes("c.mp4")


async def test_five_thousand_files(watched: Watched, root: Path):
    for folder in range(50):
        (root / f"{folder}").mkdir()
        for index in range(100):
            (root / f"{folder}" / f"{index}.mp4").write_bytes(b"x")
    async with watched.running():
        await until(lambda: numbered(watched, 5000), timeout=60)
    events = await settled_events(watched.log)
    assert sorted(event.number for event in events) == list(range(1, 5001))
    before = await watched.count()
    async with watched.running() as source:
        await until(lambda: answers(source._look is not None), timeout=30)
    assert await watched.count() == before


async def numbered(watched: Watched, count: int) -> bool:
    return await watched.log.version(REGISTRY) == count + 1 and len(await settled_events(watched.log)) == count


# ---------------------------------------------------------------- held roots


async def hold_of(watched: Watched):
    return await held_roots(watched.log, [str(watched.root)])


async def test_an_emptied_root_is_held_and_a_person_confirms(watched: Watched, root: Path):
    names = [f"{index}.mp4" for index in range(5)]
    for name in names:
        write(root / name)
    async with watched.running():
        await watched.becomes(*names)
        for name in names:
            (root / name).unlink()
        [held] = await until(lambda: hold_of(watched))
        assert (held.missing, held.hold) == (5, 1)
        assert await watched.present() == set(names)
        write(root / "new.mp4")
        await watched.becomes(*names, "new.mp4")
        await confirm_hold(watched.log, str(root))
        await watched.becomes("new.mp4")
    assert await hold_of(watched) == []
    with pytest.raises(NotFoundError, match="not held"):
        await confirm_hold(watched.log, str(root))


async def test_a_rejected_hold_keeps_the_rows_and_asks_no_more(watched: Watched, root: Path):
    for name in ("a.mp4", "b.mp4"):
        write(root / name)
    async with watched.running():
        await watched.becomes("a.mp4", "b.mp4")
        shutil.rmtree(root)
        root.mkdir()
        await until(lambda: hold_of(watched))
        await reject_hold(watched.log, str(root))
        write(root / "c.mp4")
        await watched.becomes("a.mp4", "b.mp4", "c.mp4")
        write(root / "d.mp4")
        await watched.becomes("a.mp4", "b.mp4", "c.mp4", "d.mp4")
        (root / "d.mp4").unlink()
        await watched.becomes("a.mp4", "b.mp4", "c.mp4")
    async with watched.running() as source:
        await until(lambda: answers(source._look is not None))
        write(root / "e.mp4")
        await watched.becomes("a.mp4", "b.mp4", "c.mp4", "e.mp4")
    assert await watched.root_types() == ["RootRegistered", "RootHeld", "RootReleased"]


async def test_an_answer_given_while_no_one_watched_is_heard_at_start(watched: Watched, root: Path):
    for name in ("a.mp4", "b.mp4"):
        write(root / name)
    async with watched.running():
        await watched.becomes("a.mp4", "b.mp4")
        for name in ("a.mp4", "b.mp4"):
            (root / name).unlink()
        await until(lambda: hold_of(watched))
    await confirm_hold(watched.log, str(root))
    async with watched.running():
        await watched.becomes()
    assert await watched.root_types() == ["RootRegistered", "RootHeld", "RootReleased"]


async def test_a_root_that_is_gone_is_held_until_it_is_back(watched: Watched, root: Path):
    for index in range(3):
        write(root / f"{index}.mp4")
    names = {f"{index}.mp4" for index in range(3)}
    async with watched.running():
        await watched.becomes(*names)
        os.rename(root, root.with_name("away"))
        [held] = await until(lambda: hold_of(watched))
        assert held.missing == 3 and "not there" in held.reason
        assert not root.exists(), "a root that the log has seen is not made anew"
        os.rename(root.with_name("away"), root)
        await until(lambda: released(watched))
        write(root / "new.mp4")
        await watched.becomes(*names, "new.mp4")
    [answer] = [entry.event for entry in await watched.root_events() if isinstance(entry.event, RootReleased)]
    assert answer.answer == "returned"


async def test_the_same_source_may_run_again_when_its_lease_is_back(watched: Watched, root: Path):
    write(root / "a.mp4")
    source = WatchedRoot(watched.log, watched.settings, root, watched.files)
    for round_, name in enumerate(("b.mp4", "c.mp4")):
        task = asyncio.create_task(source.run())
        await until(lambda: includes(watched, {"a.mp4"}))
        write(root / name)
        await until(lambda name=name: includes(watched, {name}))
        os.rename(root, root.with_name("away"))
        await until(lambda round_=round_: held_times(watched, round_ + 1))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        os.rename(root.with_name("away"), root)
    assert await watched.present() == {"a.mp4", "b.mp4", "c.mp4"}


async def held_times(watched: Watched, times: int) -> bool:
    return (await watched.root_types()).count("RootHeld") == times


async def released(watched: Watched) -> bool:
    return (await watched.root_types())[-1] == "RootReleased"


async def test_a_root_missing_at_start_is_made_only_if_the_log_never_saw_it(watched: Watched, root: Path):
    root.rmdir()
    async with watched.running():
        await until(lambda: answers(root.is_dir()))
        write(root / "a.mp4")
        await watched.becomes("a.mp4")
    shutil.rmtree(root)
    async with watched.running():
        await until(lambda: hold_of(watched))
        assert not root.exists()
    async with watched.running():
        await until(lambda: hold_of(watched))
    assert await watched.root_types() == ["RootRegistered", "RootHeld"], "asked once, not at each start"
    assert await watched.present() == {"a.mp4"}


@as_root
async def test_an_unmounted_disk_is_a_question_not_a_deletion(watched: Watched, root: Path, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)
    subprocess.run(["mount", "--bind", str(disk), str(root)], check=True)
    try:
        for index in range(4):
            write(root / f"{index}.mp4")
        names = {f"{index}.mp4" for index in range(4)}
        async with watched.running():
            await watched.becomes(*names)
            subprocess.run(["umount", "-l", str(root)], check=True)
            [held] = await until(lambda: hold_of(watched))
            assert held.missing == 4
            write(root / "0.mp4", "someone wrote into the empty mount point")
            assert await watched.present() == names
            (root / "0.mp4").unlink()
            subprocess.run(["mount", "--bind", str(disk), str(root)], check=True)
            await until(lambda: released(watched))
            write(root / "new.mp4")
            await watched.becomes(*names, "new.mp4")
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False)
        subprocess.run(["umount", "-l", str(disk)], check=False)
    assert {entry.type for entry in await all_events(watched.log)} == {
        "NumbersReserved", "RootRegistered", "VideoNumbered", "FileSettled", "RootHeld", "RootReleased",
    }  # fmt: skip


@as_root
async def test_a_read_only_mount_will_do(watched: Watched, root: Path, tmp_path: Path):
    source = tmp_path / "source"
    write(source / "a.mp4")
    subprocess.run(["mount", "--bind", str(source), str(root)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(root)], check=True)
        async with watched.running():
            await watched.becomes("a.mp4")
            with open(source / "b.mp4", "wb") as file:
                file.write(b"half")
                file.flush()
                write(source / "c.mp4")
                await watched.becomes("a.mp4", "c.mp4")
            await watched.becomes("a.mp4", "b.mp4", "c.mp4")
    finally:
        subprocess.run(["umount", "-l", str(root)], check=False)


async def test_nothing_about_a_file_is_touched(watched: Watched, root: Path):
    file = write(root / "a.mp4")
    os.utime(file, ns=(1_000_000_000, 2_000_000_000))
    before = file.stat()
    async with watched.running():
        await watched.becomes("a.mp4")
    assert file.stat() == before
    assert [entry.name for entry in root.iterdir()] == ["a.mp4"]


# ---------------------------------------------------------------- the log goes away


async def test_with_the_log_down_everything_waits_and_then_goes_on(
    own_redis, settings: Settings, root: Path, capsys: pytest.CaptureFixture[str]
):
    async with open_log(settings, own_redis.url) as log:
        watched = Watched(log, settings, root)
        await watched.reserve()
        async with watched.running():
            await watched.ready()
            write(root / "before.mp4")
            await watched.becomes("before.mp4")
            own_redis.stop()
            for index in range(10):
                write(root / f"during {index}.mp4")
            os.rename(root / "before.mp4", root / "moved.mp4")
            await asyncio.to_thread(own_redis.start)
            known = await watched.becomes("moved.mp4", *(f"during {index}.mp4" for index in range(10)), timeout=30)
    assert all(file.revision == 1 for file in known.values())
    numbers = [event.number for event in await_numbers(known)]
    assert len(set(numbers)) == 11


def await_numbers(known):
    return [file for file in known.values() if file.present]
