"""What is subscribed to: one row for each subscription, also where it was removed."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Text

from projections import tables
from projections.projection import RowFold
from streams.codec import Recorded
from streams.subscriptions import Subscription, folded

Row = dict[str, Any]

subscriptions = tables.table(
    "subscriptions",
    # the subject
    Column("id", tables.identifier(), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("key", String(64), nullable=False),
    Column("url", Text, nullable=False),
    # seconds
    Column("interval", tables.real(), nullable=False),
    Column("filter", Text, nullable=False),
    Column("directory", Text, nullable=False),
    # JSON
    Column("options", Text, nullable=False),
    Column("backlog", Integer, nullable=False),
    Column("client_id", Text),
    Column("title", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("changes", Integer, nullable=False),
    # the look that was due last, and the last that ended
    Column("check", BigInteger, nullable=False),
    Column("looked", BigInteger, nullable=False),
    Column("due", tables.moment()),
    Column("checked", tables.moment()),
    Column("failures", Integer, nullable=False),
    Column("error", Text),
    Column("entries", BigInteger, nullable=False),
    Column("found", BigInteger, nullable=False),
    # JSON: what is known already, the newest first
    Column("seen", tables.long_text(), nullable=False),
    Column("next_look", tables.moment(), nullable=False),
    Column("created", tables.moment(), nullable=False),
    Column("changed", tables.moment(), nullable=False),
    # of the subject: the last one that was folded
    Column("ver", BigInteger, nullable=False),
    Index("ix_subscriptions_number", "number"),
    Index("ix_subscriptions_next_look", "next_look"),
)

_MOMENTS = ("due", "checked", "next_look", "created", "changed")


class SubscriptionsProjection(RowFold):
    """Folds what happens to a subscription into its row."""

    name = "subscriptions"
    version = 1
    tables = (subscriptions,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Subjects that are subscriptions."""
        return recorded.subject.startswith("subscription:")

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """The row after the event."""
        before = None if row is None else as_subscription(row)
        after = folded(before, recorded)
        return row if after is before or after is None else as_row(after, recorded.subject)


def as_row(subscription: Subscription, subject: str) -> Row:
    """A subscription as the table holds it."""
    row: Row = {name: getattr(subscription, name) for name in Subscription.__slots__}
    row |= {name: None if row[name] is None else tables.utc(row[name]) for name in _MOMENTS}
    return {
        **row,
        "id": subject,
        "options": orjson.dumps(subscription.options).decode(),
        "seen": orjson.dumps(subscription.seen).decode(),
    }


def as_subscription(row: Row) -> Subscription:
    """A row of the table (with or without what was seen) in our words."""
    told = {name: row[name] for name in Subscription.__slots__ if name != "seen"}
    told |= {name: tables.aware(told[name]) for name in _MOMENTS}
    seen = tuple(orjson.loads(row["seen"])) if "seen" in row else ()
    return Subscription(**{**told, "options": orjson.loads(row["options"]), "seen": seen})
