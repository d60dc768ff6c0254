"""/docs and /redoc in a browser: everything from here, nothing that the policy forbids, every route shown."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.async_api import Page

from tests.api.running import Api
from tests.browser import Seen, chromium, page_of

SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of the pages, for who wants to see them."""


async def test_swagger_ui_shows_the_document_and_tries_routes(api: Api) -> None:
    """It asks this API, and has a place to choose the file of an upload."""
    async with chromium() as browser, page_of(browser) as (page, seen):
        await page.goto(f"{api.url}/docs")
        await page.get_by_text("/api/videos/storage-stats").first.wait_for(timeout=60_000)
        await shot(page, "docs")
        assert await page.get_by_role("heading", name="Warning").count() == 0
        await page.locator("#operations-Operation-healthz").click(timeout=60_000)
        await page.get_by_role("button", name="Try it out").click(timeout=60_000)
        await page.get_by_role("button", name="Execute").click(timeout=60_000)
        await page.get_by_text('"alive": true').first.wait_for(timeout=60_000)
        upload = page.locator("#operations-Uploads-upload_video")
        await upload.click(timeout=60_000)
        await upload.get_by_role("button", name="Try it out").click(timeout=60_000)
        await upload.locator("input[type=file]").wait_for(timeout=60_000)
        await shot(page, "upload")
        only_from(api, seen)


async def test_redoc_shows_the_document(api: Api) -> None:
    """With its search, which works in a worker."""
    async with chromium() as browser, page_of(browser) as (page, seen):
        await page.goto(f"{api.url}/redoc")
        await page.get_by_text("Take one video in").locator("visible=true").first.wait_for(timeout=60_000)
        await page.get_by_placeholder("Search...").fill("Google")
        await page.locator("[data-role='search:results'] li").first.wait_for(timeout=20_000)
        await shot(page, "redoc")
        only_from(api, seen)


def only_from(api: Api, seen: Seen) -> None:
    """No request to anyone else, and nothing forbidden or broken."""
    assert seen.complaints == []
    assert [url for url in seen.requested if not url.startswith(api.url + "/")] == []
    assert api.url + "/openapi.json" in seen.requested


async def shot(page: Page, name: str) -> None:
    """A picture, where someone wants one."""
    if SHOTS:
        await page.screenshot(path=Path(SHOTS, f"{name}.png"))
