"""Downloads with everything real: a web site on loopback, yt-dlp in its child, PyAV in its own, the media root on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

from processors.fetching.fetcher import open_fetcher
from processors.media.studio import open_studio
from streams.downloads import Download
from streams.identity import download_subject
from streams.log import open_log
from streams.settings import Settings
from tests.media import facts_of
from tests.processors.downloading import Desk, Known
from tests.sites.site import open_site

Make = Callable[..., Settings]


async def test_whatever_a_page_shows_ends_in_the_media_root(make_settings: Make, redis_url: str) -> None:
    """Each way of showing a film, titles that want to lead out, and a feed; all of it whole and described."""
    async with open_site() as site:
        settings = make_settings(partitions=4, download_allow=("127.0.0.1",), media_nice=0)
        async with (
            open_log(settings, redis_url) as log,
            open_fetcher(settings) as fetcher,
            open_studio(settings) as studio,
        ):
            desk = Desk(log, settings, fetcher, studio, Known(log))
            states: dict[str, Download] = {}
            paths = ["/emoji", "/hostile", "/video", "/hls/index.m3u8", "/dash/manifest.mpd", "/feed", "/empty"]
            async with desk.working():
                for number, path in enumerate(paths, 1000):  # one after the other: one child does them all
                    subject = await desk.ask(number, url=site.url(path), directory="/")
                    await desk.start(subject, subtitles=["en"] if path == "/video" else [])
                    states[path] = await desk.reaches(subject, "stored", "failed", "expanded", "postponed")
            assert {path: one.phase for path, one in states.items()} == {
                **dict.fromkeys(paths, "stored"), "/feed": "expanded", "/empty": "failed",
            }  # fmt: skip
            children = [await desk.state(download_subject(number)) for number in states["/feed"].numbers]
            assert [one.title for one in children] == ["Film 0", "Film 1", "Film 2"]
            assert states["/empty"].error == "unsupported"
            assert desk.unfinished() == []
    for path in paths[:5]:
        state = states[path]
        assert state.path is not None
        found = facts_of(Path(state.path))
        assert ("mp4" in found["format"], found["video"], found["audio"]) == (True, "h264", "aac")
        assert found["frames"] > 10
        assert Path(state.path).parent.parent == settings.downloads
        beside = {Path(one).name for one in state.files}
        stem = Path(state.path).name.removesuffix(".mp4")
        assert {f"{stem}.nfo", f"{stem}-poster.jpg", "poster.jpg"} <= beside
        assert (f"{stem}.en.vtt" in beside) == (path == "/video")
        assert {one.name for one in Path(state.path).parent.iterdir()} == beside | {Path(state.path).name}
    name = Path(states["/emoji"].path or "").name
    assert name.startswith("🎬 A-B-C - 100 % „Tüte“ 👩\u200d👩\u200d👧 — the end (2021) [")
    nfo = next(one for one in states["/hostile"].files if one.endswith(".nfo"))
    film = ET.fromstring(Path(nfo).read_bytes())
    assert "<script>" in (film.findtext("title") or ""), "as text"
    assert film.findtext("website") == site.url("/hostile")
    assert film.findtext("year") == "2021"
