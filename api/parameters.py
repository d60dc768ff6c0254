"""Query parameters: declared once, for those who read about them and for the check of every request.

What is wrong is answered with 400 and words, never guessed at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from streams.errors import RejectedError

T = TypeVar("T")
C = TypeVar("C", bound=str)

MAX_TEXT = 2048


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """A parameter of a route, by its name."""

    name: str
    about: str
    """What it is for, in words for people."""

    @property
    def schema(self) -> dict[str, Any]:
        """What is taken, as JSON Schema."""
        raise NotImplementedError

    def read(self, given: str) -> T:
        """What was meant; `given` is empty where there is none. Raises RejectedError (400)."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Text(Parameter[str | None]):
    """Any text; None where there is none."""

    opaque: bool = False
    """It is ours, and only handed back: anything else is refused later."""

    @property
    def schema(self) -> dict[str, Any]:
        """Bounded, and without NUL."""
        if self.opaque:
            return {"type": "string", "format": self.name}
        return {"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\u0000]*$"}

    def read(self, given: str) -> str | None:
        """The text."""
        if len(given) > MAX_TEXT or any("\ud800" <= c <= "\udfff" or c == "\0" for c in given):
            raise RejectedError(400, f"`{self.name}` must be UTF-8 text of at most {MAX_TEXT} characters.")
        return given or None


@dataclass(frozen=True, slots=True)
class Choice(Parameter[C]):
    """One of these words."""

    choices: Sequence[C]
    default: C
    any_case: bool = False
    """Capitals and small letters are the same."""

    @property
    def schema(self) -> dict[str, Any]:
        """The words."""
        return {"type": "string", "enum": list(self.choices), "default": self.default}

    def read(self, given: str) -> C:
        """The word, or the default."""
        value = given or self.default
        for choice in self.choices:
            if value == choice or (self.any_case and value.lower() == choice.lower()):
                return choice
        raise RejectedError(400, f"`{self.name}` must be one of {', '.join(self.choices)}, not {value!r}.")


@dataclass(frozen=True, slots=True)
class Integer(Parameter[int | None]):
    """A number between two; None where there is none."""

    least: int
    most: int
    default: int | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """Its bounds."""
        schema: dict[str, Any] = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return schema if self.default is None else schema | {"default": self.default}

    def read(self, given: str) -> int | None:
        """The number."""
        if not given:
            return self.default
        if not (given.isascii() and given.isdigit()) or len(given) > 20 or not self.least <= int(given) <= self.most:
            raise RejectedError(
                400, f"`{self.name}` must be a whole number from {self.least} to {self.most}, not {given!r}."
            )
        return int(given)


@dataclass(frozen=True, slots=True)
class Time(Parameter[datetime | None]):
    """An ISO 8601 time, local where it names no zone; None where there is none."""

    @property
    def schema(self) -> dict[str, Any]:
        """A time or a day."""
        return {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}

    def read(self, given: str) -> datetime | None:
        """The time, aware."""
        if not given:
            return None
        try:
            return datetime.fromisoformat(given.replace(" ", "+") if given.count(":") > 2 else given).astimezone()
        except (ValueError, OverflowError, OSError):
            raise RejectedError(
                400, f"`{self.name}` must be a time like 2024-11-12T14:30:52 or 2024-11-12, not {given!r}."
            ) from None


class Parameters:
    """The parameters of one request. Raises RejectedError (400) for any that this route does not know."""

    def __init__(self, query: Mapping[str, str], known: Collection[Parameter[Any]]) -> None:
        self._query = query
        names = {one.name for one in known}
        if unknown := sorted(set(query) - names):
            raise RejectedError(400, f"Unknown parameter {', '.join(unknown)}. {_those(names)}")

    def __getitem__(self, parameter: Parameter[T]) -> T:
        """What was given. Raises RejectedError (400)."""
        return parameter.read(self._query.get(parameter.name, ""))


def _those(names: Collection[str]) -> str:
    return f"There are: {', '.join(sorted(names))}." if names else "There are none here."
