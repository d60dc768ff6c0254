"""What of a metadata document has columns of its own, so that it can be searched for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MAX_WORDS = 8000
"""Characters of the text in which words are looked for."""

_NO_WORDS = frozenset({"encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id"})
"""Tags that say nothing about a video: nobody looks for `isom`."""


def facts_in(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The columns that a document fills: title, recorded, profile, pixel_format, rotation, hdr, channels, words."""
    document = metadata or {}
    form = _mapping(document.get("format"))
    streams = [_mapping(one) for one in _list(document.get("streams"))]
    video = next((one for one in streams if one.get("type") == "video"), {})
    audio = next((one for one in streams if one.get("type") == "audio"), {})
    hdr = video.get("hdr")
    return {
        "title": _text(_mapping(form.get("tags")).get("title"), 1024),
        "recorded": _text(form.get("created"), 64),
        "profile": _text(video.get("profile"), 64),
        "pixel_format": _text(video.get("pixel_format"), 64),
        "rotation": _integer(video.get("rotation_degrees")),
        "hdr": hdr if isinstance(hdr, bool) else None,
        "channels": _integer(audio.get("channels")),
        "words": _words(form, streams, [_mapping(one) for one in _list(document.get("chapters"))]),
    }


def _words(form: Mapping[str, Any], *others: Iterable[Mapping[str, Any]]) -> str | None:
    """What people wrote into the file, in lower case, a line each, none twice."""
    lines: dict[str, None] = {}
    for part in (form, *(one for some in others for one in some)):
        for text in (part.get("title"), *_said(_mapping(part.get("tags")))):
            if isinstance(text, str) and text.strip():
                lines[" ".join(text.lower().split())] = None
    return "\n".join(lines)[:MAX_WORDS] or None


def _said(tags: Mapping[str, Any]) -> Iterable[Any]:
    return (value for name, value in tags.items() if str(name).lower() not in _NO_WORDS)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any, most: int) -> str | None:
    return value[:most] if isinstance(value, str) and value else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int and -(2**31) <= value < 2**31 else None


NOTHING = facts_in(None)
"""The columns of a video of which nothing is known."""
