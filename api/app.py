"""The application factory: services in, an aiohttp application out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from api import guards, middleware
from api.download_standings import DOWNLOAD_STANDINGS, DownloadStandings
from api.draining import DRAINING, Draining
from api.drive_waiting import DRIVE, DriveWaiting
from api.handlers.documentation import DESCRIBED, Described
from api.live import LIVE, Live
from api.lookups import LOOKUPS, Lookups
from api.metrics import METRICS, Metrics
from api.opening import READER, Reader
from api.percentages import PERCENTAGES, Percentages
from api.readiness import READINESS, Readiness
from api.routes import add_routes
from api.services import SERVICES, Services
from api.standings import STANDINGS, Standings
from api.subscription_standings import SUBSCRIPTION_STANDINGS, SubscriptionStandings


def make_app(services: Services) -> web.Application:
    """The API and the page over these services. Whoever made the services closes them."""
    settings = services.settings
    app = web.Application(
        middlewares=[
            middleware.identify,
            middleware.tell_errors,
            guards.check_host(settings),
            guards.answer_preflights,
            guards.check_wishes(settings),
        ],
        # Of bodies that are read whole; uploads are streamed and have a limit of their own.
        client_max_size=2**20,
    )
    app[SERVICES] = services
    app[METRICS] = Metrics()
    app[DRAINING] = draining = Draining()
    app[READINESS] = Readiness(services, draining)
    app[DESCRIBED] = Described(app.router)
    app[DRIVE] = DriveWaiting(services.log, settings, draining)
    app[READER] = Reader()
    app[PERCENTAGES] = percentages = Percentages()
    app[STANDINGS] = standings = Standings(services.log, services.catalogue, previews=settings.previews)
    app[DOWNLOAD_STANDINGS] = DownloadStandings(services.log, services.catalogue)
    app[SUBSCRIPTION_STANDINGS] = SubscriptionStandings(services.log, services.catalogue)
    app[LOOKUPS] = Lookups(standings)
    app[LIVE] = Live(services.log, services.catalogue, percentages, previews=settings.previews)
    app.on_response_prepare.append(guards.add_headers(settings))
    app.cleanup_ctx.append(_asking)
    app.cleanup_ctx.append(_telling)
    add_routes(app)
    return app


async def _asking(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[READINESS].close()
    await app[LOOKUPS].close()
    app[READER].close()


async def _telling(app: web.Application) -> AsyncIterator[None]:
    async with app[LIVE].running():
        yield
