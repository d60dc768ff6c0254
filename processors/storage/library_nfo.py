"""What media servers read beside a video: a `.nfo` in Kodi's form for films, which Jellyfin reads as well. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from xml.etree import ElementTree as ET

MAX_TEXT = 20_000
"""Characters of one element."""


@dataclass(frozen=True, slots=True)
class Film:
    """What is known of a video, as its page told it: none of it is trusted."""

    title: str
    plot: str | None
    date: str | None
    """`YYYY-MM-DD`: when it was published."""
    uploader: str | None
    duration: float | None
    """Seconds."""
    extractor: str
    id: str
    url: str | None
    tags: tuple[str, ...]


def nfo(film: Film) -> bytes:
    """The file's content."""
    root = ET.Element("movie")

    def put(name: str, text: str | None, **attributes: str) -> None:
        if text is not None and (clean := xml_text(text)):
            ET.SubElement(root, name, attributes).text = clean

    put("title", film.title)
    put("plot", film.plot)
    put("year", film.date[:4] if film.date else None)
    put("premiered", film.date)
    put("runtime", None if film.duration is None else str(max(1, round(film.duration / 60))))
    put("studio", film.uploader)
    put("director", film.uploader)
    put("uniqueid", film.id, type=xml_text(film.extractor).lower() or "unknown", default="true")
    put("website", film.url)
    for tag in dict.fromkeys(film.tags):
        put("tag", tag)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def xml_text(text: str) -> str:
    """What of a text XML 1.0 can hold; bounded."""
    kept = (
        c
        for c in text[:MAX_TEXT]
        if c in "\t\n" or (unicodedata.category(c) not in {"Cc", "Cs"} and c not in "\ufffe\uffff")
    )
    return "".join(kept).strip()
