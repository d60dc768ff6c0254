"""Pages that show a film, each in another way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

EMOJI = "🎬 A/B\\C: 100 % „Tüte“ 👩‍👩‍👧 — the end?"
LONG = "Ein sehr langer Titel über Züge · " * 8 + "!" * 20
"""More than 300 bytes."""
HOSTILE = "../../etc/passwd\r\n<script>alert(1)</script>\x1b[31m \u202egpj.exe\x00 $(reboot) %(id)s {id}"


@dataclass
class Page:
    """A page with a film."""

    title: str = "A train goes by"
    film: str = "/film.mp4"
    """Path, or URL."""
    how: Literal["video", "og", "jsonld"] = "jsonld"
    uploader: str | None = "Ada"
    date: str | None = "2021-05-06"
    description: str = "It comes, and it goes."
    chapters: tuple[tuple[float, float, str], ...] = ((0, 2, "It comes"), (2, 6, "It goes"))
    poster: str | None = "/poster.jpg"
    tracks: dict[str, str] = field(default_factory=dict)
    """Language → path of a WebVTT, of a `video` page."""
    formats: tuple[tuple[str, int], ...] = ()
    """Other paths of the same film, each with its height, of a `video` page."""

    def html(self, base: str) -> str:
        """The page; paths are below `base`."""
        head, body = getattr(self, f"_{self.how}")(base)
        return (
            f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>{escape(self.title)}</title>{head}</head>"
            f"<body><h1>{escape(self.title)}</h1>{body}</body></html>"
        )

    def _video(self, base: str) -> tuple[str, str]:
        poster = f' poster="{escape(_at(base, self.poster))}"' if self.poster else ""
        tracks = "".join(
            f'<track kind="subtitles" srclang="{escape(language)}" src="{escape(_at(base, path))}">'
            for language, path in self.tracks.items()
        )
        sources = "".join(
            f'<source src="{escape(_at(base, path))}" type="video/mp4" label="{height}p" res="{height}">'
            for path, height in (self.formats or ((self.film, 72),))
        )
        return "", f"<video{poster}>{sources}{tracks}</video>"

    def _og(self, base: str) -> tuple[str, str]:
        told = {
            "og:title": self.title,
            "og:type": "video.other",
            "og:description": self.description,
            "og:video": _at(base, self.film),
            "og:video:type": "video/mp4",
            "og:image": _at(base, self.poster),
        }
        return "".join(f'<meta property="{name}" content="{escape(text)}">' for name, text in told.items() if text), ""

    def _jsonld(self, base: str) -> tuple[str, str]:
        told: dict[str, Any] = {
            "@context": "https://schema.org",
            "@type": "VideoObject",
            "name": self.title,
            "description": self.description,
            "contentUrl": _at(base, self.film),
            "thumbnailUrl": [_at(base, self.poster)] if self.poster else [],
            "duration": "PT6S",
            "uploadDate": self.date,
            "author": {"@type": "Person", "name": self.uploader},
            "hasPart": [
                {"@type": "Clip", "name": name, "startOffset": start, "endOffset": end}
                for start, end, name in self.chapters
            ],
        }
        told = {name: value for name, value in told.items() if value}
        text = json.dumps(told).replace("</", "<\\/")
        return f'<script type="application/ld+json">{text}</script>', ""


def _at(base: str, path: str | None) -> str:
    if path is None:
        return ""
    return base + path if path.startswith("/") else path


DEFAULT = {
    "/video": Page(how="video", tracks={"en": "/subtitles/en.vtt", "de": "/subtitles/de.vtt"}),
    "/og": Page(how="og"),
    "/jsonld": Page(how="jsonld"),
    "/emoji": Page(title=EMOJI),
    "/long": Page(title=LONG),
    "/hostile": Page(title=HOSTILE, uploader=HOSTILE, description=HOSTILE),
    "/formats": Page(how="video", formats=(("/film.mp4?size=300000", 72), ("/film.mp4?size=900000", 1080))),
}
"""Path → page."""
