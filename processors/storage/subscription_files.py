"""What people said of subscriptions, a small file for each event, in case the log loses it.

    subscriptions/new/7.json       asked for; the log may not have it yet
    subscriptions/7.json           the log has it
    subscriptions/7.2.json         its second change
    subscriptions/7.removed.json   nobody wants it any more
    subscriptions/7.passed.json    entries that its first look left out on purpose

Each event keeps its id, so appending it again doubles nothing. Everything here blocks: call it in threads.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from processors.storage.files import fsync_folder, make_folder, write_durably
from streams.codec import decode, encode, timestamp
from streams.entries import NewEvent
from streams.events import SubscriptionChanged, SubscriptionCreated, SubscriptionRemoved
from streams.identity import subscription_subject

_log = structlog.get_logger(__name__)

NEW = "new"
_NAME = re.compile(r"(\d+)(?:\.(\d+|removed))?\.json")


class SubscriptionFiles:
    """The files below one folder. Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, new: NewEvent) -> bool:
        """Keep a SubscriptionCreated that the log is about to get; durable on return. Raises OSError.

        False: its number was given to another one before, so the log lost its tail.
        """
        assert isinstance(new.event, SubscriptionCreated)
        for folder in (self.folder / NEW, self.folder):
            try:
                if orjson.loads((folder / _name(new)).read_bytes())["data"]["key"] != new.event.key:
                    return False
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                return False
        write_durably(self.folder / NEW / _name(new), _dump(new))
        return True

    def told(self, new: NewEvent) -> None:
        """The log has this event: keep it for when the log loses it. Harmless to repeat. Raises OSError."""
        waiting = self.folder / NEW / _name(new)
        if isinstance(new.event, SubscriptionCreated) and waiting.exists():
            make_folder(self.folder)
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                os.replace(waiting, self.folder / _name(new))
            fsync_folder(self.folder)
        else:
            write_durably(self.folder / _name(new), _dump(new))

    def forget(self, new: NewEvent) -> None:
        """What waits was not to be: the log has another event in its place."""
        (self.folder / NEW / _name(new)).unlink(missing_ok=True)

    def waiting(self) -> list[NewEvent]:
        """What the log may not have yet, by number."""
        return list(_read(self.folder / NEW))

    def all(self) -> Iterator[NewEvent]:
        """Everything, by number and in the order in which it was said."""
        known = {new.subject: new for new in _read(self.folder / NEW)}
        for new in _read(self.folder):
            if isinstance(new.event, SubscriptionCreated):
                known.pop(new.subject, None)
            yield new
        yield from known.values()

    def pass_over(self, number: int, entries: Sequence[str]) -> None:
        """Remember what a subscription's first look leaves out; durable on return. Raises OSError."""
        write_durably(self.folder / f"{number}.passed.json", orjson.dumps(list(entries)))

    def passed_over(self, number: int) -> tuple[str, ...] | None:
        """What the first look left out; None where there was none, as far as is known here."""
        try:
            found = orjson.loads((self.folder / f"{number}.passed.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else None


def _name(new: NewEvent) -> str:
    number = new.subject.partition(":")[2]
    match new.event:
        case SubscriptionChanged(change=change):
            return f"{number}.{change}.json"
        case SubscriptionRemoved():
            return f"{number}.removed.json"
    return f"{number}.json"


def _dump(new: NewEvent) -> bytes:
    name, sv = type(new.event).__name__, type(new.event).sv
    told: dict[str, Any] = {
        "id": new.id,
        "source": new.source,
        "time": timestamp(new.time),
        "type": name,
        "sv": sv,
    }
    return orjson.dumps({**told, "data": orjson.loads(encode(new.event))}, option=orjson.OPT_INDENT_2)


def _read(folder: Path) -> Iterator[NewEvent]:
    """Every event of a folder in order; files that hold none are left alone, and said."""
    try:
        found = [(match, entry) for entry in os.listdir(folder) if (match := _NAME.fullmatch(entry))]
    except FileNotFoundError:
        return
    for match, entry in sorted(found, key=lambda one: _order(one[0])):
        try:
            stored = orjson.loads((folder / entry).read_bytes())
            event = decode(stored["type"], stored["sv"], orjson.dumps(stored["data"]))
            at = datetime.fromisoformat(stored["time"])
            yield NewEvent(subscription_subject(int(match[1])), event, stored["id"], stored["source"], time=at)
        except FileNotFoundError:
            continue  # another process has moved it
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("what was said of a subscription cannot be read", file=str(folder / entry), error=repr(error))


def _order(match: re.Match[str]) -> tuple[int, float]:
    part = match[2]
    return int(match[1]), 0.0 if part is None else float("inf") if part == "removed" else float(part)
