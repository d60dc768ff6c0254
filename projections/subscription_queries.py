"""What is asked about subscriptions; fulfils `streams.queries.Subscriptions`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from projections import tables
from projections.database import Database
from projections.subscriptions import as_subscription, subscriptions
from streams.identity import subscription_subject
from streams.subscriptions import Subscription

_LIGHT = [column for column in subscriptions.columns if column.name != "seen"]


class SubscriptionQueries:
    """The part of the catalogue that knows subscriptions."""

    _database: Database

    async def subscription(self, number: int) -> Subscription | None:
        """One of them, also where it was removed, with all that it has seen."""
        query = select(subscriptions).where(subscriptions.c.id == subscription_subject(number))
        async with self._database.reading() as conn:
            row = (await conn.execute(query)).mappings().first()
        return None if row is None else as_subscription(dict(row))

    async def subscriptions(self) -> list[Subscription]:
        """All that were not removed, by number; what they have seen is left out."""
        query = select(*_LIGHT).where(subscriptions.c.removed.is_(False)).order_by(subscriptions.c.number)
        async with self._database.reading() as conn:
            return [as_subscription(dict(row)) for row in (await conn.execute(query)).mappings()]

    async def due_subscriptions(self, at: datetime, limit: int) -> list[Subscription]:
        """Those that are to be looked at by then, the longest due first; what they have seen is left out."""
        c = subscriptions.c
        due = (c.next_look <= tables.utc(at), c.removed.is_(False), c.paused.is_(False))
        query = select(*_LIGHT).where(*due).order_by(c.next_look, c.number).limit(limit)
        async with self._database.reading() as conn:
            return [as_subscription(dict(row)) for row in (await conn.execute(query)).mappings()]
