"""Between events and the flat fields of a log entry: cattrs for the shape, orjson for the bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Generic, Optional, TypeVar

import orjson
from cattrs.preconf.orjson import make_converter

from streams.errors import UndecodableError
from streams.events import EVENTS, UPCASTERS, Event
from streams.paths import OsPath, escape_path, unescape_path

E = TypeVar("E", bound=Event)

MAX_DATA = 64 * 1024
"""Bytes of JSON an event may have: the log holds what happened, never content."""


@dataclass(frozen=True, slots=True)
class Recorded(Generic[E]):
    """An event with its place in the log."""

    partition: int
    pos: int
    """Dense position in the partition, from 1."""
    id: str
    type: str
    subject: str
    ver: int
    """Dense version of the subject, from 1."""
    time: datetime
    """When it was appended (UTC)."""
    source: str
    """Who appended it: a door, a processor, a person."""
    cause: str | None
    """Id of the event that led to it."""
    corr: str
    """Id of the event at the root of the chain."""
    event: E


Fields = Mapping[bytes, bytes]


def _finite(number: float) -> float:
    if not isfinite(number):  # JSON would hold null, which nobody could read as a number again
        raise ValueError(f"{number} is no number that JSON can hold")
    return number


_converter = make_converter()
_converter.register_unstructure_hook(float, _finite)
_converter.register_unstructure_hook(OsPath, escape_path)
_converter.register_structure_hook(OsPath, lambda text, _: unescape_path(text))
# A union with None is another type to cattrs, which would go by what it is at run time: a str.
_MAYBE_PATH: Any = Optional[OsPath]  # noqa: UP045 - a value, not an annotation
_converter.register_unstructure_hook(_MAYBE_PATH, lambda path: None if path is None else escape_path(path))
_converter.register_structure_hook(_MAYBE_PATH, lambda text, _: None if text is None else unescape_path(text))
_structure: dict[str, Callable[[Any, Any], Any]] = {}
_unstructure: dict[str, Callable[[Any], Any]] = {}


def encode(event: Event) -> bytes:
    """The `data` field of an event.

    Raises ValueError where it is larger than MAX_DATA or holds text that JSON cannot.
    """
    name = type(event).__name__
    hook = _unstructure.get(name)
    if hook is None:
        hook = _unstructure[name] = _converter.get_unstructure_hook(type(event))
    try:
        data = orjson.dumps(hook(event))
    except TypeError as error:
        raise ValueError(f"{name} holds what JSON cannot: {error}") from error
    if len(data) > MAX_DATA:
        raise ValueError(f"{name} has {len(data)} bytes of data, more than the {MAX_DATA} an event may have")
    return data


def shown(event: Event) -> bytes:
    """The `data` field as people may see it: without what is private."""
    data = encode(event)
    if not event.private:
        return data
    return orjson.dumps({name: value for name, value in orjson.loads(data).items() if name not in event.private})


def decode(name: str, sv: int, data: bytes) -> Event:
    """The event in a `data` field, upcast to today's version. Raises ValueError where it is none."""
    cls = EVENTS.get(name)
    if cls is None:
        raise ValueError(f"event type {name!r} is unknown to this version of Spoolhouse")
    if sv > cls.sv:
        raise ValueError(f"{name} is of version {sv}; this Spoolhouse knows up to {cls.sv}: upgrade it")
    stored = orjson.loads(data)
    if not isinstance(stored, dict):
        raise ValueError("data is not a JSON object")
    try:
        for version in range(sv, cls.sv):
            stored = UPCASTERS[name, version](stored)
    except Exception as error:
        raise ValueError(f"{name} of version {sv} cannot be read as version {cls.sv}: {error!r}") from error
    hook = _structure.get(name)
    if hook is None:
        hook = _structure[name] = _converter.get_structure_hook(cls)
    try:
        event: Event = hook(stored, cls)
    except Exception as error:
        raise ValueError(f"data does not fit {name}: {error!r}") from error
    return event


def recorded(partition: int, pos: int, fields: Fields) -> Recorded[Any]:
    """The event in a log entry. Raises UndecodableError."""
    try:
        name = fields[b"type"].decode()
        return Recorded(
            partition,
            pos,
            fields[b"id"].decode(),
            name,
            fields[b"subject"].decode(),
            int(fields[b"ver"]),
            datetime.fromisoformat(fields[b"time"].decode()),
            fields[b"source"].decode(),
            fields[b"cause"].decode() or None,
            fields[b"corr"].decode(),
            decode(name, int(fields[b"sv"]), fields[b"data"]),
        )
    except KeyError as error:
        raise UndecodableError(partition, pos, f"it has no field {error}") from error
    except ValueError as error:
        raise UndecodableError(partition, pos, str(error)) from error


def timestamp(at: datetime) -> str:
    """ISO 8601 in UTC with microseconds, as entries carry it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
