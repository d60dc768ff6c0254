"""/docs and /redoc in a browser: everything from here, nothing that the policy forbids, every route shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.api.running import Api
from tests.browser import chromium, page_of

SHOTS = os.environ.get("SCREENSHOTS")
"""A folder for pictures of the pages, for who wants to see them."""


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_pages_show_the_document(api: Api, path: str) -> None:
    """Without a request to anyone else."""
    async with chromium() as browser, page_of(browser) as (page, seen):
        await page.goto(api.url + path)
        await page.get_by_text("Take one video in").locator("visible=true").first.wait_for(timeout=60_000)
        await page.get_by_text("/api/videos/storage-stats").first.wait_for(state="attached", timeout=60_000)
        if SHOTS:
            await page.screenshot(path=Path(SHOTS, path.strip("/") + ".png"))
        assert await page.get_by_role("heading", name="Warning").count() == 0
        assert seen.complaints == []
        assert [url for url in seen.requested if not url.startswith(api.url + "/")] == []
        assert api.url + "/openapi.json" in seen.requested


async def test_a_route_can_be_tried(api: Api) -> None:
    """Swagger UI asks this API, and has a place to choose the file of an upload."""
    async with chromium() as browser, page_of(browser) as (page, seen):
        await page.goto(f"{api.url}/docs#/Operation/healthz")
        await page.get_by_role("button", name="Try it out").click(timeout=60_000)
        await page.get_by_role("button", name="Execute").click(timeout=60_000)
        await page.get_by_text('"alive": true').first.wait_for(timeout=60_000)
        await page.goto(f"{api.url}/docs#/Uploads/upload_video")
        await page.reload()
        await page.get_by_role("button", name="Try it out").click(timeout=60_000)
        await page.locator("input[type=file]").wait_for(timeout=60_000)
        if SHOTS:
            await page.screenshot(path=Path(SHOTS, "upload.png"))
        assert seen.complaints == []
