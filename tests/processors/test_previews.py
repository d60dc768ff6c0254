"""Posters and sheets: made once for each revision, swapped in whole, and failures sorted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from processors.ports import MediaFailure, Previews
from streams.events import PreviewsFailed, PreviewsMade
from streams.log import Log, open_log
from streams.settings import Settings
from tests.processors.enhancing import StudioDouble, of_type, taking_pictures
from tests.processors.replicating import new_video, settled, stored, tell
from tests.streams.driving import eventually


@pytest.fixture
async def log(settings: Settings, redis_url: str) -> AsyncIterator[Log]:
    """A log on an empty Redis."""
    async with open_log(settings, redis_url) as opened:
        yield opened


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file that nobody looks into here."""
    path = tmp_path / "film.avi"
    path.write_bytes(b"a film")
    return path


async def test_pictures_of_a_newer_revision_take_the_place_of_the_older(
    log: Log, settings: Settings, film: Path
) -> None:
    """Nothing else is left in the video's folder, whatever a dead process had begun there."""
    video, studio = new_video(), StudioDouble()
    leftover = settings.previews_folder / video / ".making-r1" / "poster.jpg"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    async with taking_pictures(log, settings, studio):
        await tell(log, video, settled(film))
        [first] = await eventually(lambda: of_type(log, video, "PreviewsMade"))
        assert Path(first.poster).read_bytes() == b"poster.jpg"
        film.write_bytes(b"another film")
        await tell(log, video, settled(film, 2))
        await eventually(lambda: reached(log, video, 2))
    folder = settings.previews_folder / video
    assert [one.name for one in folder.iterdir()] == ["r2"]
    [_, second] = await of_type(log, video, "PreviewsMade")
    assert isinstance(second, PreviewsMade)
    assert (second.revision, second.tiles, second.sprite) == (2, 4, str(folder / "r2" / "sprite.jpg"))


async def test_without_a_length_there_is_no_sheet(log: Log, settings: Settings, film: Path) -> None:
    """The poster all the same."""
    video, studio = new_video(), StudioDouble(previews=Previews(0.0, 160, 90, 0))
    async with taking_pictures(log, settings, studio):
        await tell(log, video, stored(film))
        [told] = await eventually(lambda: of_type(log, video, "PreviewsMade"))
    assert (told.sprite, told.thumbnails, told.tiles) == (None, None, 0)


async def test_what_has_no_pictures_is_said_once(log: Log, settings: Settings, film: Path) -> None:
    """And nothing is left of the try."""
    video, studio = new_video(), StudioDouble(previews=MediaFailure("unreadable", "nothing in it decodes"))
    async with taking_pictures(log, settings, studio):
        await tell(log, video, stored(film))
        [told] = await eventually(lambda: of_type(log, video, "PreviewsFailed"))
    assert told == PreviewsFailed(revision=1, reason="nothing in it decodes")
    assert not list((settings.previews_folder / video).iterdir())


async def reached(log: Log, video: str, count: int) -> bool:
    """Whether pictures were made so many times."""
    return len(await of_type(log, video, "PreviewsMade")) >= count
