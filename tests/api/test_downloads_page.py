"""The page's downloads in a browser: asked for, watched, cancelled, tried again and removed; hostile titles stay text."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page

from streams.events import DownloadExpanded, DownloadFailed, DownloadFilesRemoved, DownloadPostponed
from streams.identity import download_subject
from streams.paths import OsPath
from streams.progress import Progress, Publisher
from tests.api.running import Api, until
from tests.api.test_downloads import ask_for, happen, started, stored
from tests.api.test_live_downloads import extracted
from tests.browser import chromium, page_of

SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of the page, for who wants to see them."""

PATIENCE = 60_000
"""Milliseconds."""

HOSTILE = "<img src=x onerror=document.title='owned'> \"'&amp; Ünïcode 🎬 "


@pytest.fixture
async def api(api: Api) -> Api:
    """With its tables made."""
    await api.settled()
    return api


async def test_the_page_shows_and_steers_downloads(api: Api) -> None:
    """One browser for all of it: it is what costs."""
    publisher = Publisher(api.services.log.redis, api.services.log.keys)
    async with chromium() as browser, page_of(browser) as (page, seen):
        page.set_default_timeout(PATIENCE)
        await page.goto(api.url)
        downloads = page.locator("#downloads li")
        await page.get_by_text("Nothing here.").wait_for()

        # Asked for in the form, it waits.
        await page.get_by_role("textbox", name="Address").fill("https://site.invalid/film")
        await page.get_by_role("textbox", name="Folder").fill("work")
        await page.get_by_label("Sound only").check()
        await page.get_by_role("button", name="Download", exact=True).click()
        await downloads.get_by_text("Pending").wait_for()
        told = (await api.get("/videos/1")).body
        assert (told["vid_dir"], told["options"]) == ("/work", {"audio_only": True})
        assert "In-Queue" in await downloads.first.inner_text()

        # What is wrong with an address is said.
        await page.get_by_role("textbox", name="Address").fill("http://127.0.0.1/")
        await page.get_by_role("button", name="Download", exact=True).click()
        await page.locator("#download-trouble", has_text="127.0.0.1").wait_for()
        await page.get_by_role("textbox", name="Address").fill("")

        # It is fetched, and moves.
        await happen(api, 1, started(), extracted(HOSTILE))
        await downloads.get_by_text(HOSTILE.strip()).wait_for()
        details = {"bytes": 43 * 2**20, "total": 100 * 2**20, "speed": 5.5 * 2**20, "eta": 11}

        async def moving() -> bool:
            await publisher.tell(Progress("download:1", "download", 43, "", details))
            return "43 %" in await downloads.first.inner_text()

        await until(moving)
        words = await downloads.first.inner_text()
        assert "43.0 MB of 100.0 MB" in words
        assert "5.50 MB/s" in words
        assert "00:11 left" in words
        assert await downloads.first.locator("progress").get_attribute("value") == "43"

        # Others: one in the queue, one put off, a list, one that failed with a hostile reason.
        for number in range(2, 6):
            assert (await ask_for(api))["id"] == number
        at = datetime.now(UTC) + timedelta(hours=1)
        await happen(api, 3, started(), DownloadPostponed(take=1, attempt=1, kind="retry", reason="HTTP 503", until=at))
        failed = DownloadFailed(
            take=1, attempt=1, kind="private", reason="<b>This video is private</b>", advice="Log in."
        )
        await happen(api, 4, started(), failed)
        expanded = DownloadExpanded(
            take=1, title="All talks", entries=2, more=False, limit=9, numbers=(8, 9), skipped=()
        )
        await happen(api, 5, started(), expanded)
        await downloads.get_by_text("<b>This video is private</b> Log in.").wait_for()
        await downloads.get_by_text("list of 2").wait_for()
        await downloads.get_by_text("HTTP 503").wait_for()
        await shot(page, "downloads")
        await page.set_viewport_size({"width": 420, "height": 900})
        await shot(page, "downloads-narrow")
        await page.set_viewport_size({"width": 1200, "height": 900})

        # Cancelled, and tried again.
        second = downloads.filter(has_text="In-Queue").first
        await second.get_by_role("button", name="Cancel").click()
        await downloads.get_by_text("cancelled").wait_for()
        assert (await api.get("/videos/2")).body["error"] == "cancelled"
        await downloads.filter(has_text="private").get_by_role("button", name="Try again").click()
        await until(lambda: status(api, 4, "Pending"))

        # Stored, and removed with its file; the list is what the API says.
        path = "/media/A (2024)/A (2024) [1].mp4"
        await happen(api, 1, stored(path=path))
        first = downloads.filter(has_text=HOSTILE.strip())
        await first.get_by_text("Downloaded").wait_for()
        await first.get_by_role("button", name="Remove").click()
        await page.get_by_role("button", name="Leave it").click()
        await first.get_by_role("button", name="Remove").click()
        await shot(page, "removal")
        await page.get_by_role("button", name="Remove it and its file").click()
        assert await api.services.log.wait_for(download_subject(1), ("DownloadDeleted",), after=0, timeout=20)
        await happen(api, 1, DownloadFilesRemoved(paths=(OsPath(path),)))
        await first.wait_for(state="detached")
        await downloads.filter(has_text="cancelled").get_by_role("button", name="Remove").click()
        await downloads.filter(has_text="cancelled").wait_for(state="detached")
        assert [one["id"] for one in (await api.get("/videos")).body] == [3, 4, 5]

        # Who comes anew sees the same.
        await page.reload()
        await downloads.nth(2).wait_for()
        assert await downloads.count() == 3
        await page.locator("#download-status").select_option("Downloaded")
        await until(lambda: counted(page, 1))
        assert await page.title() == "Spoolhouse"
        # Chromium itself puts refusals on the console: of the address above, and of /readyz, as there is no worker.
        assert [one for one in seen.complaints if not one.startswith("Failed to load resource")] == []
        assert [
            url for url in seen.requested if not url.startswith((api.url + "/", api.url.replace("http", "ws") + "/"))
        ] == []


async def status(api: Api, number: int, wanted: str) -> bool:
    """Whether a download stands so."""
    return bool((await api.get(f"/videos/{number}")).body["status"] == wanted)


async def counted(page: Page, count: int) -> bool:
    """Whether so many are shown."""
    return await page.locator("#downloads li").count() == count


async def shot(page: Page, name: str) -> None:
    """A picture of the page, where somebody wants one."""
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
