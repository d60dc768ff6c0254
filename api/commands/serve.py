"""`spoolhouse api` and `spoolhouse worker`: the two processes that `spoolhouse up` starts."""

from __future__ import annotations

import asyncio

import click

from streams.logging import configure_logging
from streams.settings import load_settings


@click.command()
def api() -> None:
    """Serve the API and the web page."""
    from api.server import run_api

    settings = load_settings()
    configure_logging(settings, process="api")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_api(settings))


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Run just this processor (may be repeated).")
def worker(only: tuple[str, ...]) -> None:
    """Watch, process and keep the catalogue up to date."""
    from api.worker import run_worker

    settings = load_settings()
    configure_logging(settings, process="worker")
    names = [part.strip() for one in only for part in one.split(",") if part.strip()]
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_worker(settings, only=names))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """The class of uvloop's loop where it is installed: it halves the client's share of the work."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
