"""The one file that names concrete classes: what is outside is opened here and handed to who needs it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import processors
from api.connecting import redis_url
from api.folders import link_uploads
from api.services import History, Services
from processors.diskspace import DiskReports, Disks
from processors.download_door import DownloadDoor
from processors.download_queue import DownloadQueue
from processors.download_requests import Requests
from processors.fetching.destinations import refusal_of
from processors.fetching.fetcher import open_fetcher
from processors.growing import GrowingFiles
from processors.lineages import Lineages
from processors.media.probing import open_prober
from processors.media.studio import open_studio
from processors.ports import Drive, Fetcher, ObjectStore, Prober, Studio
from processors.reconciling import Reconciler
from processors.registry import Registry
from processors.retention import Retention
from processors.storage.directory import DirectoryStore
from processors.storage.drive import open_drive
from processors.storage.library_unfinished import unfinished
from processors.storage.s3 import open_s3
from processors.storage.stores import open_store
from processors.subscription_requests import SubscriptionRequests
from processors.subscription_restoring import SubscriptionRestorer
from processors.uploads import UploadDoor
from processors.watching.growth import GrowingOf, NoGrowth
from processors.watching.roots import WatchedRoot
from projections import checkpoints
from projections.checkpoints import CheckpointMovedError
from projections.database import Database, open_database
from projections.projection import OwnedElsewhereError, discover
from projections.queries import Catalogue
from projections.runner import Runner
from projections.timeline import history
from streams.background import running
from streams.faust.hosting import hosted_by_faust
from streams.gate import Restorer
from streams.hosting import Host
from streams.log import Log, open_log
from streams.paths import escape_path
from streams.processing import Processor
from streams.processing import Services as Injected
from streams.progress import Publisher
from streams.queries import Downloads, Histories, Replicas, Subscriptions
from streams.settings import Settings


@asynccontextmanager
async def api_services(settings: Settings) -> AsyncIterator[Services]:
    """What the API answers with. Opens with Redis and the catalogue down: uploads are taken all the same.

    Raises StartError where no Redis is configured and no private one runs.
    """
    link_uploads(settings)
    async with (
        open_log(settings, redis_url(settings)) as log,
        open_database(settings) as database,
        open_probing(settings) as prober,
    ):
        catalogue = Catalogue(database, log)
        yield Services(
            settings=settings,
            log=log,
            door=UploadDoor(log, settings, prober),
            downloads=DownloadDoor(log, settings, known=catalogue, refused=refused(settings)),
            subscriptions=SubscriptionRequests(log, settings, catalogue, refused=refused(settings)),
            catalogue=catalogue,
            history=partial(history, database),
        )


def refused(settings: Settings) -> Callable[[str], str | None]:
    """Why a URL will never be fetched, as far as that can be told without asking anyone."""

    def why(url: str) -> str | None:
        fault = refusal_of(url, settings.inner_hosts)
        return None if fault is None else f"{fault}."

    return why


@dataclass(frozen=True, slots=True)
class Queueing:
    """What the command line asks for downloads with, beside a worker or without one."""

    log: Log
    catalogue: Catalogue
    downloads: DownloadDoor
    subscriptions: SubscriptionRequests


@asynccontextmanager
async def open_queueing(settings: Settings) -> AsyncIterator[Queueing]:
    """The way in for wishes about downloads. Raises StartError where no Redis is to be found."""
    async with open_log(settings, redis_url(settings)) as log, open_database(settings) as database:
        catalogue = Catalogue(database, log)
        yield Queueing(
            log,
            catalogue,
            DownloadDoor(log, settings, known=catalogue, refused=refused(settings)),
            SubscriptionRequests(log, settings, catalogue, refused=refused(settings)),
        )


def open_probing(settings: Settings) -> AbstractAsyncContextManager[Prober]:
    """The prober, as the settings want it."""
    return open_prober(timeout=settings.probe_timeout, gps=settings.metadata_gps)


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
async def open_rebuilding(settings: Settings) -> AsyncIterator[tuple[Log, Runner]]:
    """The log and the projections, for the command that builds them anew."""
    async with open_log(settings, redis_url(settings)) as log, open_database(settings) as database:
        yield log, Runner(log, database, discover(settings))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the command line verifies, repairs and restores with."""

    log: Log
    catalogue: Catalogue
    store: ObjectStore | None
    drive: Drive | None


@asynccontextmanager
async def open_recovery(settings: Settings) -> AsyncIterator[Recovery]:
    """The log, the catalogue and the copies. Each may be down; raises StartError where no Redis is to be found."""
    async with (
        open_log(settings, redis_url(settings)) as log,
        open_database(settings) as database,
        open_copying(settings) as copying,
    ):
        yield Recovery(log, Catalogue(database, log), copying.get(ObjectStore), copying.get(Drive))


@asynccontextmanager
async def open_bucket(settings: Settings) -> AsyncIterator[ObjectStore]:
    """The bucket alone, to read from: it may be a directory anywhere, on the disk of the originals, too."""
    if (settings.s3_endpoint or "").startswith("file:"):
        yield DirectoryStore(settings)
        return
    async with open_s3(settings) as store:
        yield store


# ---------------------------------------------------------------- the worker

Hosted = Callable[[Processor, Log, Injected, Settings, str], AbstractAsyncContextManager[Host]]


@dataclass(frozen=True, slots=True)
class Source:
    """Something that appends first events; one process at a time runs it."""

    name: str
    run: Callable[[], Awaitable[None]]


class WorkerProjections:
    """The projections as the gate and the worker's account see them."""

    def __init__(self, runner: Runner, database: Database) -> None:
        self.runner, self._database = runner, database
        self.run = runner.run
        self.caught_up = runner.caught_up

    @property
    def gate_closed(self) -> str | None:
        """Why they refuse to go on with this log."""
        return self.runner.gate_closed

    async def started(self) -> bool:
        """Whether all of them (or another process in their stead) have compared their checkpoints with the log."""
        return all((one.waiting is None or one.standby) and not one.gate for one in self.runner.status())

    async def highest_epoch(self) -> int:
        """The highest epoch that any checkpoint names."""
        highest = 0
        for follower in self.runner.followers.values():
            try:
                async with self._database.reading() as conn:
                    highest = max(highest, (await checkpoints.load(conn, follower.tables.checkpoint)).epoch)
            except CheckpointMovedError:
                continue
        return highest

    async def rebuild_all(self) -> None:
        """Fold everything anew, but for what another process does: it does that itself."""
        for name in self.runner.followers:
            with suppress(OwnedElsewhereError):
                await self.runner.rebuild([name])

    async def agree(self) -> bool:
        """Compare all checkpoints with the log once more: whether they fit by now."""
        return await self.runner.look_again()

    def told(self) -> dict[str, Any]:
        """For the worker's account."""
        return {one.name: asdict(one) for one in self.runner.status()}

    def problems(self) -> list[str]:
        """What keeps the tables from being true."""
        return [f"projection {one.name} stopped: {one.stopped}" for one in self.runner.status() if one.stopped]


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker works with."""

    log: Log
    projections: WorkerProjections
    registry: Registry
    restorers: Sequence[Restorer]
    services: Injected
    sources: Callable[[], list[Source]]
    """Made anew each time the gate opens: what they know of the past may have changed."""
    hosted: Hosted
    warnings: Callable[[], list[str]]
    problems: Callable[[], list[str]] = list


@asynccontextmanager
async def worker_parts(settings: Settings) -> AsyncIterator[WorkerParts]:
    """All that a worker needs, open while the body runs. Redis and the catalogue may be down."""
    import_processors()
    async with (
        open_log(settings, redis_url(settings)) as log,
        open_database(settings) as database,
        open_probing(settings) as prober,
        open_studio(settings) as studio,
        open_fetcher(settings) as fetcher,
        open_copying(settings) as copying,
    ):
        catalogue = Catalogue(database, log)
        reconciler = Reconciler(log, settings)
        registry = Registry(log, catalogue, [str(root) for root in settings.watch_roots])
        disks = Disks(settings)
        coming_in = unfinished(settings)
        retention = Retention(log, catalogue, settings, copying.get(ObjectStore), copying.get(Drive))

        store = copying.get(ObjectStore)
        growing: GrowingOf = NoGrowth if store is None else partial(GrowingFiles, log, settings, store)
        watched: list[WatchedRoot] = []
        queues: list[DownloadQueue] = []

        def sources() -> list[Source]:
            watched[:] = [
                WatchedRoot(log, settings, str(root), catalogue, growing=growing, paused=disks.full)
                for root in settings.watch_roots
            ]
            queues[:] = [DownloadQueue(log, settings, catalogue)]
            return [
                Source("uploads", reconciler.run),
                *(Source("downloads", one.run) for one in queues),
                *(Source(f"watch:{escape_path(one.root)}", one.run) for one in watched),
                Source("disk", DiskReports(log, disks).run),
                *([Source("retention", retention.run)] if settings.retention_days is not None else []),
            ]

        async with running(disks.run()):
            yield WorkerParts(
                log=log,
                projections=WorkerProjections(Runner(log, database, discover(settings)), database),
                registry=registry,
                restorers=(
                    reconciler.reappend_all,
                    Lineages(log, settings).reappend_all,
                    registry.restore,
                    Requests(log, settings).restore,
                    SubscriptionRestorer(log, settings).restore,
                ),
                services={
                    Prober: prober,
                    Studio: studio,
                    Fetcher: fetcher,
                    Log: log,
                    Histories: log,
                    Subscriptions: catalogue,
                    Replicas: catalogue,
                    Downloads: catalogue,
                    Publisher: Publisher(log.redis, log.keys),
                    **copying,
                },
                sources=sources,
                hosted=hosted_by_faust,
                warnings=lambda: [
                    *(said for one in watched for said in (one.held, one.waits) if said),
                    *(said for one in queues for said in one.warnings()),
                    *([coming_in.warning] if coming_in.warning else []),
                    *disks.warnings(),
                ],
                problems=disks.problems,
            )


@asynccontextmanager
async def open_retention(settings: Settings) -> AsyncIterator[Retention]:
    """Retention for the command line, beside a worker or without one. Raises StartError."""
    async with open_recovery(settings) as opened:
        yield Retention(opened.log, opened.catalogue, settings, opened.store, opened.drive)


@asynccontextmanager
async def open_copying(settings: Settings) -> AsyncIterator[Injected]:
    """Where copies go, by Protocol: what is configured of the object store and Drive. Either may be down.

    Raises StartError for a store that cannot be one (a directory on the disk of the originals).
    """
    async with AsyncExitStack() as stack:
        places: Injected = {}
        if settings.s3_configured:
            places[ObjectStore] = await stack.enter_async_context(open_store(settings))
        if settings.drive_configured:
            places[Drive] = await stack.enter_async_context(open_drive(settings))
        yield places


def import_processors() -> None:
    """Find every processor: a module of `processors/` that defines one registers it."""
    for module in pkgutil.iter_modules(processors.__path__):
        if not module.ispkg:
            importlib.import_module(f"processors.{module.name}")
