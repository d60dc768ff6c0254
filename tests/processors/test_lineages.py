"""Renditions come back into a log that lost its tail."""

from __future__ import annotations

from pathlib import Path

from processors.lineages import Lineages
from processors.reconciling import Reconciler
from streams.log import open_log
from streams.settings import Settings
from tests.processors.enhancing import StudioDouble, ask_for, at_work, ended, of_type
from tests.processors.replicating import new_video, stored, tell
from tests.processors.test_enhance import url_of


async def test_what_was_asked_for_by_hand_is_told_again(settings: Settings, redis_url: str, tmp_path: Path) -> None:
    """Once, of videos that the log knows; a second time it lacks nothing."""
    film = tmp_path / "film.avi"
    film.write_bytes(b"a film")
    video, other = new_video(), new_video()
    async with open_log(settings, redis_url) as log:
        for each in (video, other):
            await tell(log, each, stored(film))
        async with at_work(log, settings, StudioDouble()):
            for each in (video, other):
                await ask_for(log, each, "small")
                await ended(log, each)
        [told] = await of_type(log, video, "RenditionStored")
        await Reconciler(log, settings).append_pending()
        await log.redis.flushall()
        url = url_of(log)
    async with open_log(settings, url) as log:
        await tell(log, video, stored(film))
        assert await Reconciler(log, settings).reappend_all() == 2  # both renditions, as videos of their own
        assert await Lineages(log, settings).reappend_all() == 1
        assert await Lineages(log, settings).reappend_all() == 0
        assert await of_type(log, video, "RenditionStored") == [told]
        assert len(await of_type(log, video, "EnhancementCompleted")) == 1
        assert await log.history(other) == []
