"""Names in the media root, made of what strangers wrote: readable for people, and taken by every file system.

    named("{title} ({year})/{title} ({year}) [{id}]", {"title": "A/B: C", "year": "2024", "id": "x1"})
    → ("A-B - C (2024)", "A-B - C (2024) [x1]")

What Windows shares refuse is refused everywhere: a library moves. Pure; nothing is looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from processors.storage.names import MAX_NAME

ROOM = 56
"""Bytes that stay free behind the last part: for `_99`, `-poster.jpg`, or a language and `.vtt`."""

MAX_ID = 64
"""Bytes that are kept of a site's own id."""

MAX_PATH = 1500
"""Bytes of all parts together: a path has 4096 at the most, and the media root and the directory take theirs."""

NAMELESS = "Untitled"
"""What has no title is called, and a part of which nothing is left."""

_JOINERS = frozenset("\u200c\u200d")
"""Format characters that hold letters and emoji together; all others are invisible or turn the reading direction."""

_REPLACED = {"/": "-", "\\": "-", "|": "-", ":": "-", '"': "'", "<": "(", ">": ")", "*": "", "?": ""}
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?$", re.IGNORECASE | re.DOTALL)
_ABSENT = "\0"
"""Stands for a field that is not known, until what surrounds it is gone as well."""

_AROUND = re.compile(r"\s*\(\s*\0\s*\)|\s*\[\s*\0\s*\]|\0\s+-\s+|\s+-\s+\0")
_FIELD = re.compile(r"\{([a-z]+)\}")


def named(template: str, fields: Mapping[str, str | None]) -> tuple[str, ...]:
    """The folders and, last, the name without extension that a checked template gives.

    A field that is not known goes, with the brackets around it. Each part has 255 bytes in UTF-8 at the most, the last
    ROOM less, and is neither empty nor `.` nor `..`; of what is too long the longest field is cut, never the id.
    """
    known = {name: text for name, value in fields.items() if value and (text := safe(value))}
    # What begins with a dash is an option to many a program; an id may need its own.
    known = {name: text if name == "id" else text.lstrip("-. ") for name, text in known.items()}
    known["title"] = known.get("title") or NAMELESS
    if "id" in known:
        known["id"] = safe(cut(known["id"], MAX_ID)) or NAMELESS
    parts = template.split("/")
    limit = min(MAX_NAME, max(ROOM + MAX_ID, MAX_PATH // len(parts)))
    return tuple(_part(part, known, limit - (ROOM if part is parts[-1] else 0)) for part in parts)


def safe(text: str) -> str:
    """A text as a part of a name; may be empty. NFC, without what is invisible or refused anywhere."""
    text = unicodedata.normalize("NFC", "".join(c for c in text if _is_kept(c)))
    text = re.sub(r":(?=\s)", " -", text)
    text = "".join(_REPLACED.get(c, c) for c in text)
    return " ".join(text.split()).strip(" .")


def cut(text: str, limit: int) -> str:
    """As much of it as fits into `limit` bytes of UTF-8; no character is cut from the marks that belong to it."""
    data = text.encode()
    if len(data) <= limit:
        return text
    kept = data[: max(0, limit)].decode("utf-8", "ignore")
    rest = text[len(kept) :]
    if rest and _continues(rest[0]):
        while kept and (_continues(kept[-1]) or kept[-1] in _JOINERS):
            kept = kept[:-1]
        kept = kept[:-1]
    return kept.rstrip("".join(_JOINERS)).strip()


def language_of(text: str | None) -> str:
    """A language as it stands before a subtitle's extension: `en`, `pt-BR`; `und` where it is none."""
    kept = re.sub(r"[^A-Za-z0-9-]", "", text or "")[:35].strip("-")
    return kept or "und"


def _part(template: str, known: Mapping[str, str], limit: int) -> str:
    wanted = {name: known.get(name, "") for name in _FIELD.findall(template)}
    while len((text := _filled(template, wanted)).encode()) > limit:
        longest = max((name for name in wanted if name != "id"), key=lambda name: len(wanted[name]), default="")
        if not wanted.get(longest):
            text = cut(text, limit)  # the template itself is as long as that
            break
        over = len(text.encode()) - limit
        # A field may stand there several times: in each round it is cut by what one of them has too much.
        times = len(re.findall(rf"\{{{longest}\}}", template))
        size = len(wanted[longest].encode())
        wanted[longest] = safe(cut(wanted[longest], min(size - 1, size - -(-over // times))))
    return _unreserved(text.strip(" .")) or NAMELESS


def _filled(template: str, wanted: Mapping[str, str]) -> str:
    """The template with its fields; those that are not known leave no empty brackets."""
    literal = _FIELD.sub(lambda found: f"\1{found[1]}\2" if wanted[found[1]] else _ABSENT, template)
    literal = _AROUND.sub("", literal).replace(_ABSENT, "")
    literal = "".join(_REPLACED.get(c, c) for c in literal)
    text = re.sub("\1([a-z]+)\2", lambda found: wanted[found[1]], literal)
    return " ".join(text.split()).strip(" .")


def _unreserved(text: str) -> str:
    """Windows knows devices by names that no file can have."""
    if not _RESERVED.match(text):
        return text
    stem, dot, rest = text.partition(".")
    return f"{stem.rstrip()}_{dot}{rest}"


def _is_kept(character: str) -> bool:
    kind = unicodedata.category(character)
    if kind == "Cf":
        return character in _JOINERS or "\U000e0020" <= character <= "\U000e007f"  # flags of regions
    return kind not in {"Cc", "Cs", "Zl", "Zp"} or character in "\t\n\r"


def _continues(character: str) -> bool:
    """Whether a character belongs to the one before it."""
    return (
        unicodedata.combining(character) != 0
        or unicodedata.category(character) in {"Mn", "Mc", "Me"}
        or (
            character in _JOINERS
            or "\U0001f3fb" <= character <= "\U0001f3ff"
            or "\U000e0020" <= character <= "\U000e007f"
        )
    )
