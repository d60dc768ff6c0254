"""Keeps every projection up to date, tells how they are, and rebuilds them when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from projections.database import Database
from projections.dialects import exclusive
from projections.feed import Feed
from projections.follower import Follower, ProjectionStatus
from projections.projection import Projection
from projections.rebuild import Rebuild, prepare
from projections.rebuild import compare as compare_tables
from streams.errors import NotFoundError
from streams.log import Log

LOOK = 0.02
"""Seconds between two looks at followers that begin anew."""

log = structlog.get_logger(__name__)


class Runner:
    """One follower for each projection, all fed by one reader of the log."""

    def __init__(self, source: Log, database: Database, projections: Sequence[Projection]) -> None:
        self._log, self._database = source, database
        self._moved = asyncio.Condition()
        self.feed = Feed(source)
        self.followers = {one.name: Follower(self.feed, database, one, self._moved) for one in projections}

    async def run(self) -> None:
        """Follow the log until cancelled. Databases and logs that are down are waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.feed.run(), name="projections feed")
            for name, follower in self.followers.items():
                tasks.create_task(follower.run(), name=f"projection {name}")

    def status(self) -> list[ProjectionStatus]:
        """How each projection is."""
        return [follower.status() for follower in self.followers.values()]

    @property
    def gate_closed(self) -> str | None:
        """Why a projection refuses to go on with this log (it lost its tail); None: all is well.

        Whoever runs the gate reconciles the log, then calls `rebuild`.
        """
        return next((one.stopped for one in self.followers.values() if one.gate), None)

    async def caught_up(self, timeout: float) -> bool:
        """Wait until all that the log held at the call is applied; False when time is up."""
        return await self.settle(await self._log.heads(), timeout)

    async def settle(
        self, positions: Sequence[int], timeout: float = 5.0, *, names: Collection[str] | None = None
    ) -> bool:
        """Wait until the named projections (all) have applied up to `positions`; False when time is up.

        One whose work another process does is not waited for.
        """
        waited_for = [one for name, one in self.followers.items() if names is None or name in names]

        def there() -> bool:
            return all(
                one.standby
                or (
                    one.waiting != "starting" and all(at >= to for at, to in zip(one.positions, positions, strict=True))
                )
                for one in waited_for
            )

        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(there)
        except TimeoutError:
            return False
        return True

    async def look_again(self, timeout: float = 30.0) -> bool:
        """Have every projection compare its checkpoint with the log once more; whether all of them go on.

        For when another process may have put the log right.
        """
        self.feed.reset()
        followers = list(self.followers.values())
        for follower in followers:
            follower.look_again()
        for _ in range(round(timeout / LOOK)):
            if not any(one.waiting == "starting" for one in followers):
                break
            await asyncio.sleep(LOOK)
        return all((one.waiting is None or one.standby) and one.stopped is None for one in followers)

    async def rebuild(self, names: Collection[str] | None = None, *, compare: bool = False) -> dict[str, list[str]]:
        """Build the named projections (all) anew from the log and swap them in.

        With `compare`, says for each what differed from live tables that were up to date, row for row
        (and swaps all the same). Raises
        NotFoundError for a name that is none, InapplicableError where an event cannot be applied.
        """
        chosen = list(self.followers) if names is None else list(names)
        if unknown := [name for name in chosen if name not in self.followers]:
            raise NotFoundError(f"there is no projection {', '.join(unknown)}; there are {', '.join(self.followers)}")
        # The log may have been reconciled after it lost its tail: what was read before counts no more.
        self.feed.reset()
        return {name: await self._rebuild(self.followers[name], compare) for name in chosen}

    async def _rebuild(self, follower: Follower, compare: bool) -> list[str]:
        projection, differences = follower.projection, []
        async with exclusive(self._database, projection.name):
            await prepare(self._database, self._log, projection, follower.tables)
            builder = Rebuild(self._log, self._database, projection)
            await builder.build()
            # Only where the live tables are as far as the built ones can both be taken to the same positions.
            comparable = (
                compare and projection.compared and await self.settle(builder.positions, 30, names=[projection.name])
            )
            async with follower.standing_still():
                if comparable:
                    await builder.catch_up(follower.positions)
                    differences = await self._differences(follower, builder)
                await builder.swap(follower.tables)
        follower.try_again()
        if differences:
            log.warning("rebuilt projection differs", projection=projection.name, differences=differences[:10])
        return differences

    async def _differences(self, follower: Follower, builder: Rebuild) -> list[str]:
        found: list[str] = []
        for table in follower.projection.tables:
            found += await compare_tables(self._database, follower.tables[table.name], builder.tables[table.name])
        return found
