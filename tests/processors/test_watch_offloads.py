"""Files that Spoolhouse itself removed to make room: the watcher neither calls them removed nor asks where they are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from processors.watching.comparing import MANY
from streams.events import VideoOffloaded, VideoRestored
from streams.log import new_event, open_log
from streams.paths import OsPath
from streams.queries import KnownFile
from streams.settings import Settings
from tests.processors.watched import Watched, until, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
async def watched(redis_url: str, make_settings: Callable[..., Settings], root: Path) -> AsyncIterator[Watched]:
    settings = make_settings(
        watch=(root,), retention_watch=(root,), watch_still_after=0.3, watch_poll_interval=0.2, partitions=4
    )
    async with open_log(settings, redis_url) as log:
        made = Watched(log, settings, root)
        await made.reserve()
        yield made


async def offload(watched: Watched, file: KnownFile, offload: int = 1) -> None:
    """What retention does: first the event, then the file goes."""
    path = watched.root / file.relative
    event = VideoOffloaded(
        revision=file.revision, path=OsPath(str(path)), size=file.size, replicas=("s3",), offload=offload
    )
    await watched.log.append(new_event(file.id, event, source="retention"))
    path.unlink()


async def noticed(watched: Watched) -> None:
    """Wait until the watcher has dealt with what went so far: it does so in order."""
    name = f"sentinel {await watched.count()}.mp4"
    write(watched.root / name)

    async def there() -> bool:
        return name in await watched.present()

    await until(there)
    sentinel = (await watched.known())[name]
    (watched.root / name).unlink()
    await until(lambda: removed(watched, sentinel))


async def restored(watched: Watched, file: KnownFile, offload: int = 1) -> None:
    path = watched.root / file.relative
    event = VideoRestored(
        revision=file.revision, path=OsPath(str(path)), size=file.size, sha256="", replica="s3", offload=offload
    )
    await watched.log.append(new_event(file.id, event, source="person"))


def put_back(watched: Watched, file: KnownFile) -> None:
    """The same content and times in another file."""
    path = watched.root / file.relative
    part = path.with_name(".part")
    write(part)
    part.write_text("not read anyway" + path.name)
    os.utime(part, ns=(file.modified_ns, file.modified_ns))
    os.rename(part, path)


async def test_one_offloaded_file_is_not_called_removed(watched: Watched, root: Path):
    write(root / "a.mp4")
    write(root / "b.mp4")
    async with watched.running():
        known = await watched.becomes("a.mp4", "b.mp4")
        await offload(watched, known["a.mp4"])
        await watched.becomes("b.mp4")
        (root / "b.mp4").unlink()  # the watcher has dealt with the first one once it says this
        await until(lambda: removed(watched, known["b.mp4"]))
    assert await watched.types(known["a.mp4"].id) == ["FileSettled", "VideoOffloaded"]
    assert await watched.root_types() == ["RootRegistered"]


async def test_many_offloaded_at_once_are_no_question(watched: Watched, root: Path):
    names = [f"{number:02d}.mp4" for number in range(2 * MANY)]
    for name in names:
        write(root / name)
    async with watched.running() as source:
        known = await watched.becomes(*names)
        for name in names[: MANY + 5]:
            await offload(watched, known[name])
        await watched.becomes(*names[MANY + 5 :])
        (root / names[-1]).unlink()
        await until(lambda: removed(watched, known[names[-1]]))
        source.scan_soon()
        write(root / "new.mp4")
        await watched.becomes(*names[MANY + 5 : -1], "new.mp4")
    assert await watched.root_types() == ["RootRegistered"]
    for name in names[: MANY + 5]:
        assert await watched.types(known[name].id) == ["FileSettled", "VideoOffloaded"]


async def test_all_offloaded_while_nobody_watched_are_no_question(watched: Watched, root: Path):
    async with watched.running():
        write(root / "a.mp4")
        write(root / "b.mp4")
        known = await watched.becomes("a.mp4", "b.mp4")
    for file in known.values():
        await offload(watched, file)
    async with watched.running():
        write(root / "c.mp4")
        await watched.becomes("c.mp4")
    assert await watched.root_types() == ["RootRegistered"]


@pytest.mark.parametrize("told_first", [True, False])
@pytest.mark.parametrize("again", [1, 2])
async def test_a_restored_file_is_the_same_video(watched: Watched, root: Path, told_first: bool, again: int):
    """Whether its event comes before or after the watcher saw it, and as often as it happens."""
    write(root / "a.mp4")
    async with watched.running():
        known = await watched.becomes("a.mp4")
        file = known["a.mp4"]
        for times in range(1, again + 1):
            await offload(watched, file, times)
            await noticed(watched)
            if told_first:
                await restored(watched, file, times)
            put_back(watched, file)
            if not told_first:
                await watched.becomes("a.mp4")
                await restored(watched, file, times)
        write(root / "b.mp4")
        known = await watched.becomes("a.mp4", "b.mp4")
        assert (known["a.mp4"].id, known["a.mp4"].revision) == (file.id, 1)
        (root / "a.mp4").unlink()
        await until(lambda: removed(watched, file))
    types = await watched.types(file.id)
    assert types.count("FileSettled") == 1 and types.count("FileRemoved") == 1


async def test_a_restored_file_with_another_time_is_its_next_revision(watched: Watched, root: Path):
    write(root / "a.mp4")
    async with watched.running():
        file = (await watched.becomes("a.mp4"))["a.mp4"]
        await offload(watched, file)
        await noticed(watched)
        await restored(watched, file)
        write(root / "a.mp4")

        async def settled_again() -> bool:
            return (await watched.known())["a.mp4"].revision == 2

        await until(settled_again)
    assert (await watched.known())["a.mp4"].id == file.id


async def test_another_file_where_one_was_offloaded_is_another_video(watched: Watched, root: Path):
    write(root / "a.mp4")
    async with watched.running():
        file = (await watched.becomes("a.mp4"))["a.mp4"]
        await offload(watched, file)
        await noticed(watched)
        write(root / "a.mp4", "something else ")
        known = await watched.becomes("a.mp4")
    assert known["a.mp4"].id != file.id and known["a.mp4"].generation == 1


async def removed(watched: Watched, file: KnownFile) -> bool:
    return "FileRemoved" in await watched.types(file.id)
