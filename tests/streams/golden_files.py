"""Stored forms of every event, kept for ever: `python -m tests.streams.golden_files` writes those that are missing.

`golden/<Event>.v<version>.json` holds the `data` as it stands in logs (`stored`) and what each of
its fields must read as (`reads`: field → repr). A file is never written again: old logs are not either.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from streams.codec import encode
from streams.events import EVENTS, Event
from streams.paths import OsPath

FOLDER = Path(__file__).with_name("golden")


def golden_file(name: str, sv: int) -> Path:
    """Where the stored form of one version lies."""
    return FOLDER / f"{name}.v{sv}.json"


def example(cls: type[Event]) -> Event:
    """An event with every field filled in, each with another value."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return cls(**{field.name: _value(field.name, hints[field.name], n) for n, field in enumerate(fields, 1)})


def _value(name: str, kind: Any, number: int) -> Any:
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        [kind] = [one for one in typing.get_args(kind) if one is not type(None)]
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)[-1]
    if typing.get_origin(kind) is tuple:
        return tuple(_value(f"{name} {at}", typing.get_args(kind)[0], number + at) for at in (0, 1))
    if typing.get_origin(kind) is Mapping:
        return {f"{name} é": f"“{number}”"}
    if kind is bool:
        return True
    if kind is int:
        return number * 1_000_003
    if kind is float:
        return number + 0.25
    if kind is datetime:
        return datetime(2024, 11, 12, 14, 30, number, 123456, tzinfo=UTC)
    if kind is OsPath:
        return OsPath(f"/Videos/{name} é \udce9\\{number}.mp4")
    if kind is str:
        return f"{name} é “{number}”"
    raise TypeError(f"{name}: say here what a {kind} looks like")


def write_missing() -> list[Path]:
    """Write the stored form of every event that has none."""
    FOLDER.mkdir(exist_ok=True)
    written = []
    for name, cls in EVENTS.items():
        file = golden_file(name, cls.sv)
        if not file.exists():
            event = example(cls)
            reads = {field.name: repr(getattr(event, field.name)) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
            golden = {"stored": orjson.loads(encode(event)), "reads": reads}
            file.write_bytes(orjson.dumps(golden, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            written.append(file)
    return written


if __name__ == "__main__":
    for path in write_missing():
        print(path)
