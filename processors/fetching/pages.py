"""From a URL to one video or one list: every reference on the way is followed, nothing of a list is read yet. In the child."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from yt_dlp.extractor.generic import GenericIE
from yt_dlp.utils import sanitize_url, unsmuggle_url

from processors.fetching import describing
from processors.fetching.engine import Engine
from processors.fetching.failures import FailedError

HOPS = 10
"""References from one page to another that are followed."""

ITEM = "#spoolhouse-item="
"""Ends the URL of a video that has no page of its own: the page's URL, then this, then the video's id there."""

MAX_ITEMS = 10_000
"""Videos of a page among which one is looked for."""

_ITS_OWN = frozenset(["_type", "url", "ie_key", "id", "extractor", "extractor_key"])
"""What a page cannot say of the video that it shows."""


def read(engine: Engine, url: str) -> dict[str, Any]:
    """What lies behind a URL, as an extractor has it: a video, or a list (`entries`). Raises whatever yt-dlp does."""
    page, marked, item = url.partition(ITEM)
    found = resolved(engine, _extracted(engine, page, None), page)
    if marked:
        return _item(found, unquote(item))
    if is_list(found):
        entries = found.get("entries")
        # A page with one video in it is that video; a list that has one entry just now is a list.
        if isinstance(entries, list) and len(entries) == 1 and is_video(entries[0]):
            return of_page(found, entries[0])
    elif describing.extractor_of(found) == describing.NO_SITE:
        # So that a list which names this page can tell the id before anybody looks.
        found["id"] = generic_id(str(found.get("webpage_url") or page))
        # yt-dlp numbers the films of a page even if there is one.
        if found.get("extractor_key") != describing.NO_SITE and isinstance(found.get("title"), str):
            found["title"] = found["title"].removesuffix(" (1)")
    return found


def resolved(engine: Engine, found: dict[str, Any], url: str) -> dict[str, Any]:
    """Follow references until there is a video or a list."""
    for _ in range(HOPS):
        kind = found.get("_type", "video")
        if kind not in {"url", "url_transparent"}:
            return found
        onward = _extracted(engine, sanitize_url(str(found["url"]), scheme="https"), found.get("ie_key"), url)
        if kind == "url_transparent":
            told = {name: value for name, value in found.items() if value is not None and name not in _ITS_OWN}
            onward = {**onward, **told}
            if onward.get("_type") == "url":
                onward["_type"] = "url_transparent"
        found = onward
    raise FailedError("unsupported", f"it leads from one page to another, more than {HOPS} times")


def is_list(found: Any) -> bool:
    """Whether it has entries."""
    return isinstance(found, dict) and found.get("_type") in {"playlist", "multi_video", "compat_list"}


def is_video(entry: Any) -> bool:
    """Whether an entry is a video already, with all that is known of it."""
    return isinstance(entry, dict) and entry.get("_type", "video") == "video"


def of_page(page: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """A video that has no page of its own, with what its page says."""
    names = ("extractor", "extractor_key", "webpage_url", "original_url", "http_headers")
    return {**{name: page[name] for name in names if page.get(name)}, **entry}


def generic_id(url: str) -> str:
    """The id of a page that no extractor knows: its name."""
    return str(GenericIE._generic_id(url))  # noqa: SLF001 - as yt-dlp finds it


def item_url(page: dict[str, Any], entry: dict[str, Any]) -> str | None:
    """The URL of a video that has no page of its own; None where it has no id."""
    url, found = page.get("webpage_url") or page.get("original_url"), entry.get("id")
    if not url or not found:
        return None
    return f"{plain(str(url)).partition('#')[0]}{ITEM}{quote(str(found), safe='')}"


def plain(url: str) -> str:
    """A URL without what yt-dlp hides in it for itself."""
    return str(unsmuggle_url(url)[0])


def _item(found: dict[str, Any], wanted: str) -> dict[str, Any]:
    for number, entry in enumerate(found.get("entries") or ()):
        if number >= MAX_ITEMS:
            break
        if is_video(entry) and str(entry.get("id")) == wanted:
            return of_page(found, entry)
    raise FailedError("gone", f"the page does not show {wanted[:100]!r} any more")


def _extracted(engine: Engine, url: str, ie_key: Any, original: str | None = None) -> dict[str, Any]:
    extra = {"original_url": original} if original else {}
    found = engine.extract_info(url, download=False, ie_key=ie_key, extra_info=extra, process=False)
    if not isinstance(found, dict):
        raise FailedError("unsupported", "nothing was found there")
    return found
