"""What a page told of a video, as `ports.Extracted`: bounded, printable, and only ever text. In the child."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from processors.fetching import choosing
from processors.fetching.printable import line, lines, number, web_url

LONGEST_TITLE = 500
LONGEST_DESCRIPTION = 10_000
MAX_CHAPTERS = 500
MAX_THUMBNAILS = 10
NO_SITE = "Generic"
"""The extractor of pages that no other knows."""

MAX_BYTES = 48 * 1024
"""Of all of it as JSON: an event holds 64 KiB."""


def extracted(info: dict[str, Any], parts: list[tuple[str, dict[str, Any]]], *, live: bool) -> dict[str, Any]:
    """The fields of `ports.Extracted`."""
    sizes = [choosing.size_of(one) for _, one in parts]
    description = lines(info.get("description"), LONGEST_DESCRIPTION)
    told: dict[str, Any] = {
        "extractor": extractor_of(info),
        "media_id": media_id(info),
        "title": line(info.get("title"), LONGEST_TITLE) or media_id(info),
        "uploader": line(info.get("uploader") or info.get("channel") or info.get("creator"), 200) or None,
        "uploader_url": web_url(info.get("uploader_url") or info.get("channel_url")),
        "upload_date": _date(info),
        "description": description or None,
        "webpage_url": web_url(info.get("webpage_url")),
        "duration": number(info.get("duration")),
        "chapters": _chapters(info),
        "thumbnails": [url for url in map(web_url, thumbnails(info)) if url][:MAX_THUMBNAILS],
        "formats": [choosing.told(kind, one) for kind, one in parts],
        "live": live,
        "size": sum(size for size in sizes if size) if all(sizes) else None,
    }
    # Chapters can be had from the description again; of both, half is better than nothing.
    while len(orjson.dumps(told)) > MAX_BYTES and (told["chapters"] or told["description"]):
        if len(orjson.dumps(told["chapters"])) > len(orjson.dumps(told["description"])):
            told["chapters"] = told["chapters"][: len(told["chapters"]) // 2]
        else:
            told["description"] = told["description"][: len(told["description"]) // 2] or None
    return told


def extractor_of(info: dict[str, Any]) -> str:
    """yt-dlp's key of the site."""
    key = line(info.get("extractor_key") or info.get("ie_key") or info.get("extractor"), 100) or "Unknown"
    return NO_SITE if key == "HTML5MediaEmbed" else key


def media_id(info: dict[str, Any]) -> str:
    """The site's own id; of a page that no extractor knows, its name and a mark of its address: ids are unique then."""
    found = line(info.get("id"), 200) or "unknown"
    if extractor_of(info) != NO_SITE:
        return found
    return f"{found[:100]}-{url_mark(str(info.get('webpage_url') or info.get('original_url') or ''))}"


def url_mark(url: str) -> str:
    """Eight characters that tell one address from another."""
    return hashlib.sha256(url.partition("#")[0].encode("utf-8", "replace")).hexdigest()[:8]


def thumbnails(info: dict[str, Any]) -> list[str]:
    """URLs of pictures, the best first."""
    listed = info.get("thumbnails")
    found = [one.get("url") for one in reversed(listed) if isinstance(one, dict)] if isinstance(listed, list) else []
    return list(dict.fromkeys(url for url in [*found, info.get("thumbnail")] if isinstance(url, str)))


def _date(info: dict[str, Any]) -> str | None:
    """When it was published, `YYYY-MM-DD`."""
    for name in ("upload_date", "release_date", "modified_date"):
        text = str(info.get(name) or "")
        if re.fullmatch(r"[0-9]{8}", text):
            try:
                return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
            except ValueError:
                continue
    for name in ("timestamp", "release_timestamp"):
        seconds = number(info.get(name))
        if seconds and seconds < 2**33:
            return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    return None


def _chapters(info: dict[str, Any]) -> list[dict[str, Any]]:
    chapters: list[dict[str, Any]] = []
    for one in (info.get("chapters") or [])[:MAX_CHAPTERS]:
        start, end = number(one.get("start_time")), number(one.get("end_time"))
        if start is None or (end is not None and end <= start):
            continue
        chapters.append({"start": start, "end": start if end is None else end, "title": line(one.get("title"), 200)})
    return [one for one in chapters if one["end"] > one["start"]]
