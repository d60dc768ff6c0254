"""The one file that names concrete classes: what is outside is opened here and handed to who needs it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import processors
from api.connecting import redis_url
from api.services import History, Services
from processors.media.probing import open_prober
from processors.ports import Prober
from processors.reconciling import Reconciler
from processors.registry import Registry
from processors.uploads import UploadDoor
from processors.watching.source import WatchedRoot
from projections import checkpoints
from projections.checkpoints import CheckpointMovedError
from projections.database import open_database
from projections.projection import discover
from projections.projection import discover
from projections.queries import Catalogue
from projections.runner import Runner
from projections.timeline import history
from streams.gate import Restorer
from streams.hosting import Host, hosted
from streams.log import Log, open_log
from streams.paths import escape_path
from streams.processing import Processor, Services as Injected
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
    """What the command line looks into without an API or a worker."""

    catalogue: Catalogue
    history: History


@asynccontextmanager
async def open_reading(settings: Settings) -> AsyncIterator[Reading]:
    """The catalogue and the histories, for commands that read them."""
    async with open_database(settings) as database:
        yield Reading(Catalogue(database), partial(history, database))


@asynccontextmanager
async def open_rebuilding(settings: Settings) -> AsyncIterator[Runner]:
    """The projections, for the command that builds them anew."""
    async with open_log(settings, redis_url(settings)) as log, open_database(settings) as database:
        yield Runner(log, database, discover(settings))
