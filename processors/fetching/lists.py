"""What a list holds, read as far as it was asked for and no further. In the child."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yt_dlp.utils import PlaylistEntries

from processors.fetching import describing, pages
from processors.fetching.engine import Engine
from processors.fetching.printable import line, web_url, whole

DEPTH = 3
"""Lists within lists that are looked into."""

NESTED = 20
"""Of such lists, in all."""

BATCH = 50
"""Entries that are told at once."""


def tell_list(engine: Engine, found: dict[str, Any], limit: int) -> dict[str, Any]:
    """Tell the entries, `{"entries": [fields of ports.ListEntry]}` at a time; the rest of `ports.Listed`."""
    reader = _Reader(engine)
    batch: list[dict[str, Any]] = []
    urls: set[str] = set()
    more = False
    for entry in reader.entries(found, DEPTH):
        if entry["url"] in urls:
            continue
        if len(urls) >= limit:
            more = True
            break
        urls.add(entry["url"])
        batch.append(entry)
        engine.alive()
        if len(batch) >= BATCH:
            engine.tell({"entries": batch})
            batch = []
    engine.tell({"entries": batch})
    said = whole(found.get("playlist_count")) or reader.count or 0
    total = max(said, len(urls) + more) if more else len(urls)
    title = line(found.get("title") or found.get("id"), describing.LONGEST_TITLE)
    return {"title": title, "total": total, "more": more}


class _Reader:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._nested = engine, 0
        self.count: int | None = None
        """Entries of the outermost list, where it tells."""

    def entries(self, found: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
        """The fields of ports.ListEntry, lists within it read in their place."""
        # Page by page, as long as somebody goes on asking.
        listed = PlaylistEntries(self._engine, found)
        if self.count is None:
            self.count = listed.get_full_count()
        for _, entry in listed.get_requested_items():
            if not isinstance(entry, dict):
                continue
            if pages.is_list(entry):
                if depth > 1:
                    yield from self.entries(
                        {**entry, "webpage_url": entry.get("webpage_url") or found.get("webpage_url")}, depth - 1
                    )
            elif pages.is_video(entry):
                url = web_url(entry.get("webpage_url")) or pages.item_url(found, entry)
                if url:
                    video = pages.of_page(found, entry)
                    yield _entry(url, f"{describing.extractor_of(video)} {describing.media_id(video)}", entry)
            elif url := web_url(pages.plain(str(entry.get("url") or ""))):
                if self._is_nested(entry, url) and depth > 1 and self._nested < NESTED:
                    self._nested += 1
                    inner = pages.resolved(self._engine, entry, url)
                    if pages.is_list(inner):
                        yield from self.entries(inner, depth - 1)
                        continue
                yield _entry(url, self._key(entry, url), entry)

    def _is_nested(self, entry: dict[str, Any], url: str) -> bool:
        """Whether what an entry names is a list for sure."""
        extractor = self._extractor(entry, url)
        return extractor is not None and extractor.is_single_video(url) is False

    def _extractor(self, entry: dict[str, Any], url: str) -> Any:
        key = entry.get("ie_key")
        if key:
            return self._engine.get_info_extractor(key)
        return next((one for one in self._engine._ies.values() if one.suitable(url)), None)  # noqa: SLF001 - as yt-dlp finds it

    def _key(self, entry: dict[str, Any], url: str) -> str | None:
        """`<extractor> <id>` as the video itself will tell it, as far as a list can know."""
        extractor = self._extractor(entry, url)
        if extractor is None:
            return None
        key = str(extractor.ie_key())
        if key == "Generic":
            found = {"extractor_key": key, "id": pages.generic_id(url), "webpage_url": url}
        else:
            found = {"extractor_key": key, "id": entry.get("id") or extractor.get_temp_id(url)}
        return f"{key} {describing.media_id(found)}" if found["id"] else None


def _entry(url: str, key: str | None, entry: dict[str, Any]) -> dict[str, Any]:
    return {"url": url, "key": key, "title": line(entry.get("title"), describing.LONGEST_TITLE)}
