"""The media root: what is put there appears whole or not at all, links lead nowhere, and a repeat completes what was begun."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from processors.storage import library as placing
from processors.storage.library import Former, Library, Ready
from processors.storage.library_folders import LeadsOutError
from processors.storage.library_unfinished import HIDDEN, prepared, unfinished
from processors.storage.library_work import WorkFolder, WorkHeldError, folder_of, held
from streams.errors import SettingsError
from streams.events import VideoStored
from streams.paths import OsPath
from streams.settings import Settings

Make = Callable[..., Settings]
VIDEO = "3f2a0000-0000-0000-0000-000000000001"
OTHER = "3f2a0000-0000-0000-0000-000000000002"


class KilledError(BaseException):
    """Stands for a kill -9: nothing is tidied up, for the process is gone."""


@pytest.fixture
async def work(settings: Settings) -> AsyncIterator[WorkFolder]:
    """A work folder that is ours."""
    async with held(folder_of(prepared(settings), 1, VIDEO), patience=0) as work:
        yield work


@pytest.fixture
def library(settings: Settings) -> Library:
    """The media root."""
    return Library(settings)


def ready(work: WorkFolder, content: bytes = b"a film", **changes: Any) -> Ready:
    """Everything that a download puts there, made anew."""
    made = work.making()
    files = {"video": content, "nfo": b"<movie/>", "vtt": b"WEBVTT", "poster.jpg": b"a picture"}
    for name, data in files.items():
        (made / name).write_bytes(data)
    fields: dict[str, Any] = {
        "folders": ("talks", "A Film (2024)"),
        "name": "A Film (2024) [x]",
        "own_folder": True,
        "video": made / "video",
        "extension": ".mp4",
        "sides": ((".nfo", made / "nfo"), (".en.vtt", made / "vtt")),
        "poster": made / "poster.jpg",
    }
    return Ready(**{**fields, **changes})


def event(path: Path, status: os.stat_result, sha256: str) -> VideoStored:
    """The first event of a video."""
    at = datetime(2024, 5, 6, tzinfo=UTC)
    return VideoStored(
        door="download", path=OsPath(str(path)), stored_name=path.name, filename=path.name, original_name="A Film",
        label="", mime="video/mp4", size=status.st_size, sha256=sha256, received_at=at, modified_at=at,
    )  # fmt: skip


def everything(root: Path) -> set[str]:
    """What lies in the media root."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


FILES = {
    f"talks/A Film (2024)/{name}"
    for name in (
        "A Film (2024) [x].mp4",
        "A Film (2024) [x].nfo",
        "A Film (2024) [x].en.vtt",
        "A Film (2024) [x]-poster.jpg",
        "poster.jpg",
    )
}


async def test_a_download_gets_its_place_with_all_that_media_servers_read(library: Library, work: WorkFolder) -> None:
    """The poster under both names: Plex looks for the folder's, Kodi and Jellyfin for the film's."""
    kept = library.place(VIDEO, ready(work), event, work, Former())
    assert everything(library.root) == FILES
    assert {os.path.relpath(path, library.root) for path in (kept.sidecar.event.path, *kept.files)} == FILES
    assert Path(kept.sidecar.event.path).read_bytes() == b"a film"
    assert library.sidecars.pending() == [kept.sidecar]
    again = library.kept(VIDEO)
    assert again is not None
    assert set(again.files) | {f"{library.root}/talks/A Film (2024)/poster.jpg"} == set(kept.files)
    assert library.kept(VIDEO, work.state) == kept


async def test_another_video_of_the_same_name_gets_another(library: Library, work: WorkFolder) -> None:
    """Nothing is overwritten, not even a file that somebody put there; the folder's poster stays the first one's."""
    library.place(VIDEO, ready(work), event, work, Former())
    work.state.video = ""
    kept = library.place(OTHER, ready(work, b"another"), event, work, Former())
    assert Path(kept.sidecar.event.path).name == "A Film (2024) [x]_2.mp4"
    assert sorted(Path(path).name for path in kept.files) == [
        "A Film (2024) [x]_2-poster.jpg", "A Film (2024) [x]_2.en.vtt", "A Film (2024) [x]_2.jpg", "A Film (2024) [x]_2.nfo",
    ]  # fmt: skip


async def test_a_newer_take_replaces_what_the_older_had_put_there(library: Library, work: WorkFolder) -> None:
    """Under the same name, in one step; the older one's manifest no longer explains what lies there."""
    before = library.place(VIDEO, ready(work), event, work, Former())
    work.state.video = ""
    former = Former(frozenset({before.sidecar.event.path, *before.files}))
    after = library.place(OTHER, ready(work, b"a better film"), event, work, former)
    assert everything(library.root) == FILES
    assert after.sidecar.event.path == before.sidecar.event.path
    assert Path(after.sidecar.event.path).read_bytes() == b"a better film"
    assert library.kept(VIDEO) is None
    assert library.kept(OTHER) is not None
    assert library.remove(VIDEO, [before.sidecar.event.path], frozenset({after.sidecar.event.path})) == []
    assert library.remove(VIDEO, [before.sidecar.event.path]) == [], "it is another's by now"
    assert everything(library.root) == FILES


@pytest.mark.parametrize(
    "point",
    [
        "download.sealed",
        "download.noted",
        "download.side_placed",
        "download.announced",
        "download.linked",
        "download.placed",
    ],
)
async def test_whoever_dies_leaves_what_a_repeat_completes(
    library: Library, work: WorkFolder, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """At any step: afterwards there is one video with its files, and nothing else; in between, no half one."""

    def die(name: str) -> None:
        if name == point:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(placing, "reach", die)
        patch.setattr(library, "undo", lambda _work: None)  # the dead do not tidy up
        with pytest.raises(KilledError):
            library.place(VIDEO, ready(work), event, work, Former())
    there = list(library.root.rglob("*.mp4"))
    assert all(path.read_bytes() == b"a film" for path in there)
    found = library.kept(VIDEO, work.state)
    assert (found is not None) == (point in {"download.linked", "download.placed"})
    if found is None:
        assert not there
        found = library.place(VIDEO, ready(work), event, work, Former())
    assert everything(library.root) == FILES
    assert {os.path.relpath(path, library.root) for path in (found.sidecar.event.path, *found.files)} == FILES
    assert [one.video for one in library.sidecars.pending()] == [VIDEO]


async def test_what_is_given_up_half_way_leaves_nothing(
    library: Library, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, no folder, no manifest; files of others stay."""
    other = library.root / "talks" / "mine.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")

    def fail(_sidecar: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library.sidecars, "write", fail)
    with pytest.raises(OSError, match="No space"):
        library.place(VIDEO, ready(work), event, work, Former())
    assert everything(library.root) == {"talks/mine.txt"}
    assert not (library.root / "talks" / "A Film (2024)").exists()
    assert library.sidecars.pending() == []


@pytest.mark.parametrize("link", ["talks", "talks/A Film (2024)"])
async def test_no_link_leads_out(library: Library, work: WorkFolder, tmp_path: Path, link: str) -> None:
    """Neither when something is put there nor when it is taken away."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (library.root / link).parent.mkdir(parents=True)
    (library.root / link).symlink_to(outside)
    with pytest.raises(LeadsOutError, match="link"):
        library.place(VIDEO, ready(work), event, work, Former())
    assert list(outside.iterdir()) == []
    precious = outside / "A Film (2024)" / "x.mp4" if link == "talks" else outside / "x.mp4"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious")
    path = OsPath(str(library.root / "talks" / "A Film (2024)" / "x.mp4"))
    assert library.remove(VIDEO, [path]) == []
    assert library.remove(VIDEO, [OsPath(str(library.root / ".." / "outside" / "x.mp4")), OsPath(str(precious))]) == []
    assert precious.read_text() == "precious"


async def test_without_hard_links_it_is_moved(
    library: Library, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT, and on some network file systems."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    library.place(VIDEO, ready(work), event, work, Former())
    assert everything(library.root) == FILES
    assert library.kept(VIDEO) is not None


async def test_removing_takes_the_files_and_the_empty_folders(library: Library, work: WorkFolder) -> None:
    """Up to the root, and never it; a folder in which anything else lies stays."""
    kept = library.place(VIDEO, ready(work), event, work, Former())
    paths = [kept.sidecar.event.path, *kept.files]
    assert library.remove(VIDEO, paths) == paths
    assert list(library.root.iterdir()) == []
    assert library.remove(VIDEO, paths) == []


async def test_one_at_a_time_has_a_work_folder(settings: Settings, work: WorkFolder) -> None:
    """And whoever waits for one that is removed makes another."""
    with pytest.raises(WorkHeldError):
        async with held(work.path, patience=0.05):
            pass
    assert not work.begin("1/1")
    assert work.begin("1/1"), "it began before and never ended"
    assert not work.begin("1/1")
    work.end()
    assert not work.begin("1/1")
    work.discard()
    work.release()
    async with held(work.path, patience=0) as again:
        assert again.path.is_dir()
        work._lock = os.dup(again._lock)  # for the fixture to close


# ---------------------------------------------------------------- where unfinished files lie


def test_unfinished_files_lie_on_the_media_roots_file_system(
    make_settings: Make, tmp_path: Path, other_disk: Path
) -> None:
    """In `data` where that is on it, else beside the media root; another one that was named is refused."""
    assert unfinished(make_settings()).folder == tmp_path / "data" / "unfinished"
    there = unfinished(make_settings(media_root=other_disk / "media"))
    assert (there.folder, there.warning) == (other_disk / "media-unfinished", None)
    named = make_settings(unfinished_dir=tmp_path / "coming")
    assert prepared(named) == tmp_path / "coming"
    with pytest.raises(SettingsError, match="different file systems"):
        unfinished(make_settings(media_root=other_disk / "media", unfinished_dir=tmp_path / "coming"))
    with pytest.raises(SettingsError, match="lies in the media root"):
        make_settings(unfinished_dir=tmp_path / "data" / "media" / "x")


def test_a_media_root_that_is_a_file_system_of_its_own_hides_them(make_settings: Make, tmpfs: Path) -> None:
    """As a last resort, where media servers do not look, and said."""
    place = unfinished(make_settings(media_root=tmpfs))
    assert place.folder == tmpfs / HIDDEN
    assert place.warning is not None
    prepared(make_settings(media_root=tmpfs))
    assert (tmpfs / HIDDEN / ".plexignore").read_text() == "*\n"
    assert (tmpfs / HIDDEN / ".ignore").exists()
