"""Query parameters, checked: what is wrong is answered with 400 and words, never guessed at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from streams.errors import RejectedError

C = TypeVar("C", bound=str)

MAX_TEXT = 2048


class Parameters:
    """The parameters of one request. Raises RejectedError (400) for any that this route does not know."""

    def __init__(self, query: Mapping[str, str], known: Collection[str]) -> None:
        self._query = query
        if unknown := sorted(set(query) - set(known)):
            raise RejectedError(400, f"Unknown parameter {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")

    def text(self, name: str) -> str | None:
        """Any text; None where there is none."""
        value = self._query.get(name, "")
        if len(value) > MAX_TEXT or any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
            raise RejectedError(400, f"`{name}` must be UTF-8 text of at most {MAX_TEXT} characters.")
        return value or None

    def choice(self, name: str, choices: Sequence[C], default: C) -> C:
        """One of these words."""
        value = self._query.get(name) or default
        for choice in choices:
            if value == choice:
                return choice
        raise RejectedError(400, f"`{name}` must be one of {', '.join(choices)}, not {value!r}.")

    def integer(self, name: str, least: int, most: int) -> int | None:
        """A number between these; None where there is none."""
        value = self._query.get(name, "")
        if not value:
            return None
        if not (value.isascii() and value.isdigit()) or len(value) > 20 or not least <= int(value) <= most:
            raise RejectedError(400, f"`{name}` must be a whole number from {least} to {most}, not {value!r}.")
        return int(value)

    def time(self, name: str) -> datetime | None:
        """An ISO 8601 time, local where it names no zone; None where there is none."""
        value = self._query.get(name, "")
        if not value:
            return None
        try:
            return datetime.fromisoformat(value.replace(" ", "+") if value.count(":") > 2 else value).astimezone()
        except (ValueError, OverflowError, OSError):
            raise RejectedError(
                400, f"`{name}` must be a time like 2024-11-12T14:30:52 or 2024-11-12, not {value!r}."
            ) from None
