"""What a person writes about downloads, checked: directories, naming templates, languages, names of cookie files."""

from __future__ import annotations

import re

LONGEST_DIRECTORY = 512
"""Characters."""

LANGUAGE = r"^[A-Za-z0-9*.-]{1,35}$"
"""A language of subtitles, or a pattern for some: `en`, `en.*`."""

TEMPLATE_FIELDS = ("title", "year", "id", "uploader", "date", "extractor", "playlist")
"""What a naming template may name, each in braces."""


def checked_directory(value: str) -> str:
    """A folder below the media root as it is kept: `/`, `/work`, `/work/talks`.

    Raises ValueError where it could leave the root or cannot be a folder.
    """
    if len(value) > LONGEST_DIRECTORY:
        raise ValueError(f"a directory has at most {LONGEST_DIRECTORY} characters")
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in value) or "\\" in value:
        raise ValueError("a directory holds neither control characters nor backslashes")
    parts = [part for part in value.split("/") if part]
    for part in parts:
        if part.startswith(".") or part != part.strip() or len(part.encode()) > 255:
            raise ValueError(
                f"{part[:50]!r} cannot be a folder here: no dots in front, no blanks around, 255 bytes at most"
            )
    return "/" + "/".join(parts)


def checked_template(value: str) -> str:
    """A naming template. Raises ValueError where it names what there is not, or could leave its folder."""
    named = re.findall(r"\{([^{}]*)\}", value)
    if re.sub(r"\{[^{}]*\}", "", value).strip("{}") != re.sub(r"\{[^{}]*\}", "", value):
        raise ValueError("a brace in it has no partner")
    if unknown := sorted({name for name in named if name not in TEMPLATE_FIELDS}):
        raise ValueError(
            f"there is no {{{unknown[0]}}}; there are {', '.join(f'{{{one}}}' for one in TEMPLATE_FIELDS)}"
        )
    if "id" not in named:
        raise ValueError("it must name {id}: two videos of one title would want one name")
    for part in value.split("/"):
        if not part.strip() or part.startswith(".") or "\\" in part or any(ord(char) < 32 for char in part):
            raise ValueError("a part of it is empty, begins with a dot, or holds a backslash or a control character")
    return value


def checked_cookies(value: str) -> str:
    """The name of a file with cookies. Raises ValueError where it could be another folder's."""
    if len(value) > 100 or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        raise ValueError(
            "it is the name of a file in the folder for cookies (letters, digits, _ . -), without any folder"
        )
    return value


def checked_language(value: str) -> str:
    """A language of subtitles. Raises ValueError."""
    if not re.fullmatch(LANGUAGE, value):
        raise ValueError(f"{value[:40]!r} is no language of subtitles: en, de, pt-BR, en.*")
    return value
