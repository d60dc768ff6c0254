"""Debian's Chromium, driven by playwright, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playwright.async_api import Browser, Page, async_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    "--disable-dev-shm-usage",
]


@dataclass(slots=True)
class Seen:
    """What a page did."""

    requested: list[str] = field(default_factory=list)
    """Addresses, `data:` and `blob:` left out."""
    complaints: list[str] = field(default_factory=list)
    """Errors of the page and on the console: what a policy forbids is among them."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window. Its profile is a new one."""
    program = shutil.which("chromium")
    assert program is not None, "Chromium is not installed: scripts/test installs it"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(browser: Browser) -> AsyncIterator[tuple[Page, Seen]]:
    """A new page, and what it does."""
    page, seen = await browser.new_page(viewport={"width": 1200, "height": 900}), Seen()
    page.on("request", lambda one: seen.requested.append(one.url) if one.url.startswith(("http", "ws")) else None)
    page.on("pageerror", lambda one: seen.complaints.append(str(one)))
    page.on("console", lambda one: seen.complaints.append(one.text) if one.type == "error" else None)
    try:
        yield page, seen
    finally:
        await page.close()
