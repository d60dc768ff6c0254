"""Between stream entries and Faust's messages.

A topic's entry carries `key`, `value` (each left out where it is None), `headers` (JSON pairs) and
`time`. An event of the log is a message, too: its value is the event's data, its key the subject,
and everything else is a header.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from time import time
from typing import Any

import orjson
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.deliveries import Delivery

NO_GENERATION = -1


class StreamMessage(ConsumerMessage):
    """A message that knows its delivery, and with it whether its partition is still ours."""

    __slots__ = ("_generation", "delivery")

    def __init__(
        self,
        tp: TP,
        delivery: Delivery,
        generation: int,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: Any = None,
        timestamp: float = 0.0,
    ) -> None:
        self.delivery = delivery
        super().__init__(
            tp.topic,
            tp.partition,
            delivery.pos,
            timestamp,
            0,
            headers,
            key,
            value,
            None,
            tp=tp,
            generation_id=generation,
        )

    @property
    def generation_id(self) -> int | None:
        """Faust's streams skip messages of another generation: those whose partition is leaving or lost."""
        owned = self.delivery.owned
        return NO_GENERATION if owned.leaving or owned.gone else self._generation

    @generation_id.setter
    def generation_id(self, generation: int | None) -> None:
        self._generation = generation


def to_message(tp: TP, delivery: Delivery, generation: int) -> StreamMessage:
    """What Faust hands to agents."""
    fields = delivery.fields
    key: bytes | None
    value: bytes | None
    if b"data" in fields and b"type" in fields:
        key, value, headers = fields.get(b"subject"), fields[b"data"], _event_headers(fields)
    else:
        key, value, headers = fields.get(b"key"), fields.get(b"value"), _headers(fields.get(b"headers"))
    return StreamMessage(tp, delivery, generation, key, value, headers, _seconds(fields.get(b"time")))


def to_fields(key: bytes | None, value: bytes | None, timestamp: float | None, headers: Any) -> list[Any]:
    """The entry's fields and values, flat."""
    at = datetime.fromtimestamp(time() if timestamp is None else timestamp, UTC)
    fields: list[Any] = ["time", at.isoformat(timespec="microseconds")]
    if key is not None:
        fields += ("key", key)
    if value is not None:
        fields += ("value", value)
    if headers:
        pairs: Iterable[tuple[str, bytes]] = headers.items() if isinstance(headers, Mapping) else headers
        # latin-1 says each byte as one character: readable where it is ASCII, and nothing is lost.
        fields += ("headers", orjson.dumps([[name, _bytes(content).decode("latin-1")] for name, content in pairs]))
    return fields


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _headers(stored: bytes | None) -> list[tuple[str, bytes]]:
    return [(name, content.encode("latin-1")) for name, content in orjson.loads(stored)] if stored else []


def _event_headers(fields: Mapping[bytes, bytes]) -> list[tuple[str, bytes]]:
    return [(name.decode(), content) for name, content in fields.items() if name not in {b"data", b"subject"}]


def _seconds(stored: bytes | None) -> float:
    try:
        return datetime.fromisoformat((stored or b"").decode()).timestamp()
    except ValueError:
        return time()  # put in by hand
