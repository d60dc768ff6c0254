"""Chromium really plays what is served: it seeks into what is not loaded yet, and hls.js changes rungs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from processors.media.studio import open_studio
from processors.ports import EnhanceJob, Made, Studio
from streams.paths import OsPath
from streams.presets import BUILT_IN
from streams.settings import Settings
from tests.api.films import VIDEO, Films, running_films
from tests.browser import chromium, page_of
from tests.hlsjs import hls_js
from tests.noise import make_noise

SECONDS = 40
"""Of a film of more than 50 MB: Chromium loads a part of it and waits."""

PATIENCE = 90_000
"""Milliseconds for anything to happen in the browser."""


@pytest.fixture
async def films(make_settings: Callable[..., Settings], redis_url: str) -> AsyncIterator[Films]:
    async with running_films(make_settings(redis_url=redis_url)) as running:
        yield running


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """An empty page of no origin: whatever it loads is from elsewhere."""
    async with chromium() as browser, page_of(browser) as (opened, _):
        opened.set_default_timeout(PATIENCE)
        yield opened


async def test_seeking_while_only_part_is_loaded(films: Films, page: Page, rng: random.Random, tmp_path: Path) -> None:
    """It plays from the beginning, then from near the end, without having loaded what lies between."""
    films.put(make_noise(tmp_path / "noise.mp4", SECONDS, rng))
    ranges: list[str] = []
    answers: list[int] = []
    page.on("request", lambda request: ranges.append(request.headers.get("range", "")))
    page.on("response", lambda response: answers.append(response.status))
    url = f"{films.api.url}/processed_videos/{VIDEO}"
    await page.set_content(f"<video muted preload=metadata crossorigin=anonymous src='{url}'></video>")
    await page.wait_for_function("document.querySelector('video').readyState >= 1")
    assert await page.evaluate("document.querySelector('video').duration") == pytest.approx(SECONDS, abs=0.5)
    await page.evaluate("document.querySelector('video').play()")
    await plays_beyond(page, 0.5)
    await page.evaluate(f"document.querySelector('video').currentTime = {SECONDS - 6}")
    await plays_beyond(page, SECONDS - 5)
    held = await buffered(page)
    assert not any(start < 10 and end > SECONDS - 8 for start, end in held), held
    assert len([one for one in ranges if one and one != "bytes=0-"]) >= 1, ranges
    assert set(answers) == {206}


async def test_hls_js_plays_a_ladder_as_the_studio_makes_it(
    films: Films, page: Page, rng: random.Random, settings: Settings, tmp_path: Path
) -> None:
    """All its rungs are seen, it plays, and goes on when the rung changes."""
    source = make_noise(tmp_path / "noise.mp4", 12, rng)
    async with open_studio(settings) as studio:
        for number, height in enumerate((90, 180)):
            media, id_in_playlist = films.folder / f"{number}.mp4", f"{number}.mp4"
            made = await rung_of(studio, source, media, height, id_in_playlist)
            playlist = films.folder / f"{number}.m3u8"
            Path(f"{media}.m3u8").rename(playlist)
            rung = films.put(
                media,
                kind="hls",
                width=made.width,
                height=made.height,
                duration=made.duration,
                codecs=made.codecs,
                bit_rate=made.bit_rate,
                playlist=str(playlist),
            )
            playlist.write_text(playlist.read_text().replace(id_in_playlist, f"{rung.id}.mp4"))
    await page.set_content("<video muted></video>")
    await page.add_script_tag(content=hls_js())
    await page.evaluate(
        """url => {
            const video = document.querySelector('video');
            window.seen = [];
            window.failed = [];
            window.hls = new Hls({startLevel: 0, maxBufferLength: 4});
            hls.on(Hls.Events.FRAG_BUFFERED, (_, data) => seen.push(data.frag.level));
            hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) failed.push(data.details); });
            hls.on(Hls.Events.MANIFEST_PARSED, () => { hls.currentLevel = 0; video.play(); });
            hls.loadSource(url);
            hls.attachMedia(video);
        }""",
        f"{films.api.url}/processed_videos/{VIDEO}/master.m3u8",
    )
    await plays_beyond(page, 1.0)
    levels = await page.evaluate("hls.levels.map(level => [level.width, level.height])")
    assert sorted(levels) == [[160, 90], [320, 180]]
    await page.evaluate("hls.nextLevel = 1")
    await page.wait_for_function("seen.includes(0) && seen.includes(1)")
    await page.wait_for_function("document.querySelector('video').videoHeight === 180")
    await page.evaluate("document.querySelector('video').currentTime = 9")
    await plays_beyond(page, 10.0)
    assert await page.evaluate("failed") == []


async def rung_of(studio: Studio, source: Path, target: Path, height: int, name: str) -> Made:
    """A rung of a ladder, with segments of about a second."""
    job = EnhanceJob(
        path=OsPath(str(source)),
        target=OsPath(str(target)),
        kind="hls",
        mode="auto",
        preset={**BUILT_IN["plain"].model_dump(), "speed": "ultrafast", "crf": 30},
        height=height,
        segment=1.0,
        media_name=name,
        threads=2,
    )
    answers = [answer async for answer in studio.enhance(job)]
    assert isinstance(answers[-1], Made), answers[-1]
    return answers[-1]


async def plays_beyond(page: Page, seconds: float) -> None:
    """Wait until it has played on to there."""
    try:
        await page.wait_for_function(f"document.querySelector('video').currentTime > {seconds}")
    except Exception as error:
        state: Any = await page.evaluate(
            "(v => [v.currentTime, v.readyState, v.networkState, v.error && v.error.message])(document.querySelector('video'))"
        )
        raise AssertionError(f"it does not play beyond {seconds}: {state}") from error


async def buffered(page: Page) -> list[tuple[float, float]]:
    """Which seconds are loaded."""
    found = await page.evaluate(
        "(b => [...Array(b.length).keys()].map(i => [b.start(i), b.end(i)]))(document.querySelector('video').buffered)"
    )
    return [(start, end) for start, end in found]
