"""The tags of a file, as far as they may be kept: clean text, bounded, and without places unless wanted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

TAGS, NAME, VALUE = 64, 64, 1000
"""How many are kept of one stream or container, and characters of a name and of a value."""

_PLACE_NAMES = re.compile(
    r"location|iso.?6709|gps|©xyz|^xyz|geo(?!m)|latitude|longitude|altitude|coordinate", re.IGNORECASE
)
_PLACES = re.compile(r"^\s*[+-]\d{1,4}(\.\d+)?[+-]\d{1,5}(\.\d+)?|GPS(Latitude|Longitude|Position)", re.IGNORECASE)
"""Names of tags that say where something was recorded, and values that look like it (ISO 6709, EXIF)."""


def tags_of(found: Mapping[str, str], *, gps: bool, left_out: Callable[[str], None]) -> dict[str, str]:
    """The tags to keep, by their names in FFmpeg. `left_out` is told of each that is not, and why."""
    kept: dict[str, str] = {}
    for name, value in found.items():
        if not gps and (_PLACE_NAMES.search(name) or _PLACES.search(value)):
            left_out("tags that say where it was recorded (SPOOLHOUSE_METADATA_GPS is off)")
            continue
        if len(kept) == TAGS:
            left_out("tags that have no room here")
            continue
        if len(value) > VALUE:
            left_out("tags of which only the beginning is kept")
        clean = cleaned(value, VALUE)
        if clean and (key := cleaned(name, NAME)):
            kept[key] = clean
    return kept


def cleaned(text: str, most: int) -> str:
    """Text that JSON, terminals and people can hold, of `most` characters."""
    text = text[: most + 1]
    whole = "".join(_clean(c) for c in text).strip()
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def _clean(character: str) -> str:
    if character in "\n\t":
        return character
    kind = unicodedata.category(character)
    return "�" if kind == "Cs" else "" if kind == "Cc" else character
