"""How a subscription stands: the catalogue's word, the log's, or what was said of it here just now."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from aiohttp import web

from api.services import Catalogue
from streams.errors import DependencyDownError, LogUnavailableError, NotFoundError
from streams.identity import subscription_subject
from streams.log import Log
from streams.subscriptions import Subscription, fold

KEPT = 1000
"""Subscriptions that were begun, changed or ended here, and are remembered until the catalogue has them so."""


class SubscriptionStandings:
    """Asks one after the other. One for an application."""

    def __init__(self, log: Log, catalogue: Catalogue) -> None:
        self._log, self._catalogue = log, catalogue
        self._here: OrderedDict[int, Subscription] = OrderedDict()

    def told(self, subscription: Subscription) -> None:
        """One was begun or changed here."""
        self._here[subscription.number] = subscription
        self._here.move_to_end(subscription.number)
        if len(self._here) > KEPT:
            self._here.popitem(last=False)

    def ended(self, subscription: Subscription) -> None:
        """One was ended here."""
        self.told(replace(subscription, removed=True, ver=subscription.ver + 1))

    async def of(self, number: int) -> Subscription:
        """One of them. Raises NotFoundError; LogUnavailableError or DependencyDownError where no one can say."""
        down: DependencyDownError | None = None
        found = self._here.get(number)
        try:
            found = self._newer(await self._catalogue.subscription(number), found)
        except DependencyDownError as error:
            down = error
        try:
            # Its history grows with every look: it is read only where it says more.
            subject = subscription_subject(number)
            if await self._log.version(subject) > (0 if found is None else found.ver):
                found = fold(await self._log.history(subject)) or found
        except LogUnavailableError as error:
            if found is None:
                raise (down or error) from None
        if found is None or found.removed:
            raise NotFoundError(f"There is no subscription {number}.")
        return found

    async def every(self) -> list[Subscription]:
        """All of them, oldest first. Raises DependencyDownError."""
        found = {one.number: one for one in await self._catalogue.subscriptions()}
        for number, here in list(self._here.items()):
            row = found.get(number)
            if row is not None and row.ver >= here.ver:
                del self._here[number]
            else:
                found[number] = here
        return [one for _, one in sorted(found.items()) if not one.removed]

    def _newer(self, row: Subscription | None, here: Subscription | None) -> Subscription | None:
        if row is None or here is None:
            return row or here
        return here if here.ver > row.ver else row


SUBSCRIPTION_STANDINGS = web.AppKey("subscription_standings", SubscriptionStandings)
