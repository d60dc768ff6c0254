"""What comes after a download treats it as a video of ours: given up only on purpose, restored into its folder, listed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processors.origins import from_stream
from processors.reconciling import Reconciler
from processors.retention import Retention
from processors.returning import home_of, put_back
from processors.storage.library import Former, Kept, Library
from processors.storage.library_unfinished import prepared
from processors.storage.library_work import folder_of, held
from processors.wishes import wish_of
from projections.summaries import summary
from streams.errors import RejectedError
from streams.events import FileRemoved, VideoStored
from streams.log import Log, new_event, open_log
from streams.media_changes import changes, name_in
from streams.paths import OsPath
from streams.settings import Settings
from tests.processors.retaining import world
from tests.processors.test_library import VIDEO, event, ready
from tests.projections.conftest import applied, world_at

Make = Callable[..., Settings]
LONG_AGO = datetime.now(UTC) - timedelta(days=60)


async def downloaded(log: Log, settings: Settings) -> Kept:
    """A download of long ago, in the media root and in the log."""

    def old(path: Path, status: os.stat_result, sha256: str) -> VideoStored:
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return replace(event(path, status, sha256), received_at=LONG_AGO, modified_at=modified)

    async with held(folder_of(prepared(settings), 1, VIDEO), patience=0) as work:
        kept = Library(settings).place(VIDEO, ready(work, b"a film" * 1000), old, work, Former())
        work.discard()
    assert await Reconciler(log, settings).append_pending() == 1
    return kept


async def test_downloads_are_given_up_only_where_the_media_root_opted_in(
    make_settings: Make, redis_url: str, other_disk: Path
) -> None:
    """Never by itself, whatever retention says of uploads; and what was given up comes back into its folder."""
    settings = make_settings(partitions=2, chunk_size=4096, s3_endpoint=f"file://{other_disk}", watch_still_after=0.1)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        kept = await downloaded(log, settings)
        await here.copy(VIDEO)
        verdict, reason = await here.decided()
        assert verdict == "kept"
        assert "SPOOLHOUSE_RETENTION_WATCH" in reason
        [outcome] = await here.look(dry_run=True)
        assert outcome.unasked
        asked = settings.model_copy(update={"retention_watch": (settings.downloads,)})
        here.retention = Retention(log, here, asked, here.store, None)
        assert here.retention.misnamed() is None
        assert (await here.decided())[0] == "deleted"
        path = Path(kept.sidecar.event.path)
        assert not path.exists()
        assert path.with_suffix(".nfo").exists()
        assert Library(settings).is_there(VIDEO, kept.sidecar.event.path), "it is not fetched again"
        shutil.rmtree(settings.downloads)
        assert here.store is not None
        wanted = await from_stream(await here.facts(VIDEO), here.store)
        await put_back(log, settings, VIDEO, wanted, "s3")
        assert path.read_bytes() == b"a film" * 1000
        assert (await here.facts(VIDEO)).state == "present"


async def test_a_download_belongs_below_the_media_root(make_settings: Make, redis_url: str, tmp_path: Path) -> None:
    """However deep; with another media root it is not written anywhere unasked."""
    settings = make_settings(partitions=2)
    async with open_log(settings, redis_url) as log, world(log, settings) as here:
        kept = await downloaded(log, settings)
        facts = await here.facts(VIDEO)
        assert home_of(facts, settings) == Path(kept.sidecar.event.path)
        with pytest.raises(RejectedError, match="-o FILE"):
            home_of(
                facts,
                settings.model_copy(update={"media_root": tmp_path / "elsewhere", "downloads": tmp_path / "elsewhere"}),
            )


async def test_the_tables_list_it_and_the_notifiers_table_does_not(
    make_settings: Make, redis_url: str, sqlite_url: str, rng: random.Random
) -> None:
    """By its title; once it was deleted, as removed; what lies in the media root is never adopted as an upload."""
    settings = make_settings(partitions=2, catalogue_url=sqlite_url)
    async with world_at(settings, redis_url, rng) as here, here.running() as runner:
        kept = await downloaded(here.log, settings)
        await applied(runner)
        [row] = await here.rows("catalogue")
        assert (row["door"], row["state"], row["path"]) == ("download", "present", kept.sidecar.event.path)
        [stat] = await here.rows("storage_stats")
        assert (stat["door"], stat["state"], stat["bytes"]) == ("download", "present", 6000)
        [media] = await here.rows("media")
        assert media["filename"] == "A Film"
        assert await Reconciler(here.log, settings).survey() == 0
        gone = FileRemoved(root=OsPath(str(settings.downloads)), relative=OsPath("talks/x.mp4"))
        await here.log.append(new_event(VIDEO, gone, source="download"))
        await applied(runner)
        assert [one["state"] for one in await here.rows("catalogue")] == ["removed"]
        assert [(one["state"], one["videos"]) for one in await here.rows("storage_stats") if one["videos"]] == [
            ("removed", 1)
        ]
        assert await here.rows("videos") == []
    assert summary(kept.sidecar.event).startswith("Downloaded and stored as A Film (2024) [x].mp4")
    assert name_in(kept.sidecar.event) == "A Film"


def test_nothing_waits_for_the_pictures_of_sound(clean_env: Path, make_settings: Make) -> None:
    """A download of sound alone is complete as it is: no task is queued for it, and no rule enhances it."""
    film = VideoStored(
        door="download",
        path=OsPath("/media/a.m4a"),
        stored_name="a.m4a",
        filename="a.m4a",
        original_name="A",
        label="",
        mime="video/mp4",
        size=1,
        sha256="0" * 64,
        received_at=LONG_AGO,
        modified_at=LONG_AGO,
    )
    settings = make_settings(enhance_doors="download")
    assert [one.task for one in changes(film, previews=True)] == ["metadata-extraction", "previews"]
    assert wish_of(film, settings) is not None
    sound = replace(film, mime="audio/mp4")
    assert changes(sound, previews=True) == ()
    assert wish_of(sound, settings) is None
