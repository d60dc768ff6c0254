"""How a handler is described: `@documented(...)` above it, and its docstring.

The first sentence of the docstring is the summary (a request line before it, in backquotes, is left
out), the rest the description. Query parameters are the same objects that check the request
(`api/parameters.py`), answers the types that the handler's functions return (`api/shapes.py`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp.typedefs import Handler

from api.parameters import Parameter

H = TypeVar("H", bound=Handler)

JSON = "application/json"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers with one status."""

    about: str
    shape: Any = None
    """The type of the JSON that it is; None: no JSON."""
    media: tuple[str, ...] = ()
    """Media types, where it is no JSON; none at all: no body."""
    example: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those worth knowing, each with what it says."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes."""

    about: str
    shape: Any
    """The type of the JSON, or of the form's fields: `bytes` is a file."""
    media: str = JSON
    example: Any = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """A handler's description."""

    name: str
    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    refuses: tuple[int, ...]
    """Statuses of the errors that it answers with, besides those that any route may answer with."""
    path: Mapping[str, str]
    """What the variable parts of its path are, by name."""
    query: Sequence[Parameter[Any]]
    headers: Mapping[str, str]
    """Those of a request that make a difference, each with what it is for."""
    body: Body | None
    head: bool
    """Whether HEAD is worth a mention of its own; every GET answers it."""
    websocket: bool


_operations: dict[Handler, Operation] = {}


def documented(
    tag: str,
    answers: Mapping[int, Answer],
    *,
    refuses: Sequence[int] = (),
    path: Mapping[str, str] | None = None,
    query: Sequence[Parameter[Any]] = (),
    headers: Mapping[str, str] | None = None,
    body: Body | None = None,
    head: bool = False,
    websocket: bool = False,
) -> Callable[[H], H]:
    """Describe the handler below. It stays as it is."""

    def describe(handler: H) -> H:
        summary, description = words(handler.__doc__ or "")
        statuses = {*refuses, *((400,) if query else ())}
        _operations[handler] = Operation(
            getattr(handler, "__name__", ""),
            tag,
            summary,
            description,
            answers,
            tuple(sorted(statuses)),
            path or {},
            query,
            headers or {},
            body,
            head,
            websocket,
        )
        return handler

    return describe


def operation_of(handler: Handler) -> Operation | None:
    """How a handler is described; None where it is not."""
    return _operations.get(handler)


def words(docstring: str) -> tuple[str, str]:
    """Summary and description."""
    text = re.sub(r"^`[A-Z|]+ /[^`]*`: ", "", inspect.cleandoc(docstring))
    first, _, rest = text.partition("\n\n")
    summary, _, more = first.replace("\n", " ").partition(". ")
    summary = summary.strip().rstrip(".")
    return summary[:1].upper() + summary[1:], "\n\n".join(part for part in (more.strip(), rest.strip()) if part)
