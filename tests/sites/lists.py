"""Lists of films: an RSS feed, which can grow while it runs, and a page with many of them."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Item:
    """An entry of a feed."""

    path: str
    """Of its page, or URL."""
    title: str


def feed(title: str, items: list[Item], base: str) -> str:
    """RSS, in the order given; paths are below `base`."""
    entries = "".join(
        f"<item><title>{escape(item.title)}</title>"
        f"<link>{escape(base + item.path if item.path.startswith('/') else item.path)}</link></item>"
        for item in items
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel>'
        f"<title>{escape(title)}</title>{entries}</channel></rss>"
    )


def many_videos(count: int, base: str) -> str:
    """One page with `count` films in it."""
    videos = "".join(
        f'<video><source src="{base}/films/{number}.mp4" type="video/mp4"></video>' for number in range(count)
    )
    return f"<!DOCTYPE html><html><head><title>Many films</title></head><body>{videos}</body></html>"
