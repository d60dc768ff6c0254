"""Names under which uploads are stored: safe on disk, readable for people, never cut in a character.

`20241112_143052_Tutorial_video.mp4` is local time, the sender's label, and the name of the file.
`filename` is the same without the timestamp.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime

MAX_NAME = 255
"""Bytes that a file name may have on the file systems we know."""

MAX_LABEL = 64
"""Bytes that are kept of a label."""

MAX_EXTENSION = 20
"""Bytes; what is longer is no extension but part of the name."""

MAX_TEXT = 255
"""Characters kept of what a sender called a file, as events and tables hold it."""

SUFFIXES = 9_999
"""How many files of one name may come in one second."""

NAMELESS = "video"
"""What a file is called whose sender gave it no usable name."""

_STAMP = "%Y%m%d_%H%M%S"
_STAMPED = re.compile(r"^\d{8}_\d{6}_(?=.)", re.DOTALL)
_RESERVED = len("YYYYmmdd_HHMMSS_") + len(f"_{SUFFIXES}")
_SEPARATORS = re.compile(r"[/\\]+")
# Characters that turn the reading direction: `fdp.4pm` would be shown for another name.
_TURNING = frozenset("\u200e\u200f\u061c\ufeff") | {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def safe_name(original: str) -> str:
    """One path component made of what a sender called a file; at most 255 bytes in UTF-8, NFC.

    Of a path, its last part stays. Control characters, bytes that are not UTF-8 and leading dots
    go; the extension stays, however long the name is.
    """
    parts = [part for part in (_clean(part) for part in _SEPARATORS.split(original)) if part]
    last = parts[-1] if parts else ""
    name = last.lstrip(". ")
    if last.startswith(".") and "." not in name and name.isalnum():  # `.mp4`: only an extension
        name = f"{NAMELESS}.{name}"
    stem, extension = _split(name)
    return _cut(stem, MAX_NAME - len(extension.encode())).rstrip() + extension if stem else NAMELESS


def safe_label(label: str) -> str:
    """A sender's label as part of a file name; may be empty."""
    text = _clean(_SEPARATORS.sub("_", label)).lstrip(". ")
    return _cut(text, MAX_LABEL).strip()


def stored_names(original: str, label: str, at: datetime) -> Iterator[str]:
    """The names to try for an upload, best first: plain, then with `_2`, `_3` … before the extension.

    `at` is when it came, in local time. No name is longer than 255 bytes.
    """
    name, part = safe_name(original), safe_label(label)
    stamp, prefix = at.strftime(_STAMP), f"{part}_" if part else ""
    stem, extension = _split(name)
    stem = _cut(stem, MAX_NAME - _RESERVED - len(prefix.encode()) - len(extension.encode())).rstrip()
    yield f"{stamp}_{prefix}{stem}{extension}"
    for number in range(2, SUFFIXES + 1):
        yield f"{stamp}_{prefix}{stem}_{number}{extension}"


def without_timestamp(stored_name: str) -> str:
    """`filename` of the contract: a stored name without its timestamp, or as it is where it has none."""
    return _STAMPED.sub("", stored_name)


def printable(text: str) -> str:
    """What a sender wrote, as JSON, a table and a terminal can hold it: at most 255 characters."""
    text = _SEPARATORS.sub("/", text) if "\\" in text else text
    return _clean(text)[:MAX_TEXT]


def _clean(text: str) -> str:
    kept = "".join(c for c in text if c not in _TURNING and unicodedata.category(c) not in {"Cc", "Cs", "Zl", "Zp"})
    return unicodedata.normalize("NFC", kept).strip()


def _split(name: str) -> tuple[str, str]:
    stem, extension = os.path.splitext(name)
    if len(extension.encode()) > MAX_EXTENSION or extension == ".":
        return name, ""
    return stem, extension


def _cut(text: str, limit: int) -> str:
    """As much of it as fits into `limit` bytes of UTF-8, no character cut in two."""
    data = text.encode()
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")
