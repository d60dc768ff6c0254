"""Paths as text that JSON, MySQL and people can hold.

A file name on Linux is bytes. Python holds those that are not UTF-8 as lone surrogates, which
neither JSON nor a database takes. Stored paths are therefore escaped: a byte that is not part of
valid UTF-8 becomes `\\xNN`, and a backslash becomes two. Everything else stays as it is, so
ordinary paths look ordinary.
"""

from __future__ import annotations

import re
from typing import NewType

OsPath = NewType("OsPath", str)
"""A path as `os` gives it (surrogateescape). Events hold these; the codec escapes them."""

_ESCAPED = re.compile(r"\\(\\|x([0-9a-f]{2}))")


def escape_path(path: str) -> str:
    """The storable form of a path that came from `os`."""
    if "\\" in path:
        path = path.replace("\\", "\\\\")
    if path.isascii():
        return path
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in path)


def unescape_path(text: str) -> OsPath:
    """The path that `os` understands, from its storable form."""
    if "\\" not in text:
        return OsPath(text)

    def original(match: re.Match[str]) -> str:
        return "\\" if match[1] == "\\" else chr(0xDC00 + int(match[2], 16))

    return OsPath(_ESCAPED.sub(original, text))
