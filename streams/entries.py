"""What goes into the log and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.codec import Recorded, encode, timestamp
from streams.events import Event
from streams.identity import event_id


@dataclass(frozen=True, slots=True)
class Fence:
    """A lease under which an append is made: it is refused once the lease is someone else's."""

    partition: int
    group: str
    value: str
    """`<member> <token>`, as it stands in the lease key."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be appended. Appending the same id again changes nothing."""

    subject: str
    event: Event
    id: str
    source: str
    cause: str | None = None
    corr: str | None = None
    expected: int | None = None
    """The version that the subject must have before; None: any."""
    checkpoint: Mapping[str, str] | None = None
    """Fields that are set on the subject's hash in the same step."""
    fence: Fence | None = None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def arguments(self) -> list[Any]:
        """Its part of the append script's ARGV. Raises ValueError for text that UTF-8 cannot hold."""
        checkpoint = self.checkpoint or {}
        arguments: list[Any] = [
            self.id,
            type(self.event).__name__,
            self.subject,
            timestamp(self.time),
            self.source,
            self.cause or "",
            self.corr or self.id,
            type(self.event).sv,
            encode(self.event),
            -1 if self.expected is None else self.expected,
            self.fence.value if self.fence else "",
            len(checkpoint),
        ]
        for name, value in checkpoint.items():
            arguments += (name, value)
        return [part.encode() if isinstance(part, str) else part for part in arguments]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an event stands. A duplicate carries the position and version of the original."""

    id: str
    partition: int
    pos: int
    ver: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a partition, undecoded."""

    partition: int
    pos: int
    fields: Mapping[bytes, bytes]


def new_event(
    subject: str,
    event: Event,
    *,
    source: str,
    cause: Recorded[Any] | None = None,
    ordinal: int = 0,
    expected: int | None = None,
    checkpoint: Mapping[str, str] | None = None,
    fence: Fence | None = None,
) -> NewEvent:
    """An event with the id that a repeat of the same step makes again.

    The id comes from the subject, the source, the event's `step()`, and (where there is one) the
    event that caused it.
    """
    because = f"{source}/{event.step()}" + (f"/{cause.id}" if cause else "")
    return NewEvent(
        subject=subject,
        event=event,
        id=event_id(subject, because, ordinal),
        source=source,
        cause=cause.id if cause else None,
        corr=cause.corr if cause else None,
        expected=expected,
        checkpoint=checkpoint,
        fence=fence,
    )


def entry_fields(flat: list[bytes]) -> dict[bytes, bytes]:
    """A stream entry's flat list of fields and values as a mapping."""
    items = iter(flat)
    return dict(zip(items, items, strict=True))


def position(entry_id: bytes | str) -> int:
    """The position that an entry id `<pos>-0` is."""
    return int(entry_id.partition("-")[0] if isinstance(entry_id, str) else entry_id.partition(b"-")[0])
