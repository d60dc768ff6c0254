"""The one file that names concrete classes: what is outside is opened here and handed to who needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from api.connecting import redis_url
from api.services import Services
from processors.media.probing import open_prober
from processors.uploads import UploadDoor
from projections.database import Database, open_database
from projections.queries import Catalogue
from projections.timeline import history
from streams.log import Log, open_log
from streams.settings import Settings


@asynccontextmanager
async def api_services(settings: Settings) -> AsyncIterator[Services]:
    """What the API answers with. Opens with Redis and the catalogue down: uploads are taken all the same.

    Raises StartError where no Redis is configured and no private one runs.
    """
    async with (
        open_log(settings, redis_url(settings)) as log,
        open_database(settings) as database,
        open_prober(timeout=settings.probe_timeout) as prober,
    ):
        yield Services(
            settings=settings,
            log=log,
            door=UploadDoor(log, settings, prober),
            catalogue=Catalogue(database, log),
            history=partial(history, database),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What the command line looks into."""

    settings: Settings
    database: Database
    catalogue: Catalogue


@asynccontextmanager
async def open_catalogue(settings: Settings, log: Log) -> AsyncIterator[Reading]:
    """The catalogue alone, for commands that read it."""
    async with open_database(settings) as database:
        yield Reading(settings, database, Catalogue(database, log))
