"""What is asked about downloads."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select

from projections import checkpoints, tables
from projections.database import Database
from projections.download_config import as_saved, download_config
from projections.downloads import as_download, downloads, stored_key
from streams.download_config import SavedConfig
from streams.downloads import Download, DownloadStatus
from streams.queries import Fetched

PAGE = 500
"""Keys that one statement asks for."""

_HERE = downloads.c.phase != "deleted"


class DownloadQueries:
    """The downloads as the tables know them; part of `projections.queries.Catalogue`.

    Everything raises DependencyDownError where they cannot be asked. What was deleted is left out.
    """

    _database: Database

    async def downloads(
        self, status: DownloadStatus | None = None, *, after: int = 0, limit: int | None = None
    ) -> Sequence[Download]:
        """Downloads beyond number `after`, by number: the oldest first."""
        query = select(downloads).where(_HERE, downloads.c.number > after).order_by(downloads.c.number).limit(limit)
        return await self._asked(query if status is None else query.where(downloads.c.status == status))

    async def download(self, number: int) -> Download | None:
        """One download; None: there is none of that number (any more)."""
        return next(iter(await self._asked(select(downloads).where(_HERE, downloads.c.number == number))), None)

    async def download_versions(self, numbers: Sequence[int]) -> dict[int, int]:
        """The versions that the table has of these, by number; of deleted ones, too."""
        found: dict[int, int] = {}
        async with self._database.reading() as conn:
            for start in range(0, len(numbers), PAGE):
                part = downloads.c.number.in_(numbers[start : start + PAGE])
                query = select(downloads.c.number, downloads.c.ver).where(part)
                found.update((number, ver) for number, ver in (await conn.execute(query)).all())
        return found

    async def downloads_of_client(self, client_id: str, limit: int, *, everyone: bool = False) -> Sequence[Download]:
        """A client's downloads (or everyone's): those that changed last, the newest first."""
        query = select(downloads).where(_HERE).order_by(downloads.c.changed.desc(), downloads.c.number.desc())
        if not everyone:
            query = query.where(downloads.c.client_id == client_id)
        # MySQL takes `me` and `me ` for equal.
        return [one for one in await self._asked(query.limit(limit)) if everyone or one.client_id == client_id]

    async def download_positions(self) -> Sequence[int] | None:
        """Up to where in each partition what is known of downloads follows the log; None: not made yet."""
        async with self._database.reading() as conn:
            try:
                found = await checkpoints.load_if_there(conn, tables.checkpoint_table("downloads"))
            except checkpoints.CheckpointMovedError:
                return None  # it is about to be made
        return None if found is None else [place.pos for place in found.places]

    async def download_config(self) -> SavedConfig:
        """What a person changed of how downloads are made."""
        async with self._database.reading() as conn:
            row = (await conn.execute(select(download_config))).mappings().first()
        return SavedConfig() if row is None else as_saved(dict(row))

    # ---------------------------------------------------------------- streams.queries.Downloads

    async def fetched(self, keys: Sequence[str]) -> dict[str, Fetched]:
        """Which of these (`Download.archive_key`) are stored and not deleted: the newest of each."""
        wanted = {stored_key(key): key for key in keys}
        found: dict[str, Fetched] = {}
        for start in range(0, len(wanted), PAGE):
            part = list(wanted)[start : start + PAGE]
            there = (downloads.c.phase == "stored") & downloads.c.path.is_not(None)
            query = select(downloads).where(downloads.c.archive_key.in_(part), there)
            for one in await self._asked(query.order_by(downloads.c.number)):
                key = stored_key(one.archive_key)
                # MySQL takes `a` and `a ` for equal.
                if key in wanted and one.video is not None and one.path is not None:
                    found[wanted[key]] = Fetched(one.number, one.video, one.path)
        return found

    async def open_downloads(self) -> tuple[list[int], list[Download]]:
        """How far the table follows the log, and every download that is open; see `streams.queries.Downloads`."""
        positions = await self.download_positions()  # first: rows of a later moment do no harm
        if positions is None:
            return [], []
        query = select(downloads).where(downloads.c.status.in_(("Pending", "Processing")))
        return list(positions), list(await self._asked(query.order_by(downloads.c.number)))

    async def children(self, number: int) -> list[Download]:
        """The entries of a list, by number."""
        query = select(downloads).where(_HERE, downloads.c.parent == number).order_by(downloads.c.number)
        return list(await self._asked(query))

    async def _asked(self, query: Select[tuple[object, ...]]) -> Sequence[Download]:
        async with self._database.reading(timeout=60) as conn:
            return [as_download(dict(row)) for row in (await conn.execute(query)).mappings()]
