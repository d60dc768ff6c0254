"""`spoolhouse worker`: the other of the two processes that `spoolhouse up` starts."""

from __future__ import annotations

import click

from api.showing import serve
from api.worker import run_worker
from streams.logging import configure_logging
from streams.settings import load_settings


@click.command()
@click.option("--only", multiple=True, metavar="NAME[,NAME…]", help="Run just these processors (may be repeated).")
def worker(only: tuple[str, ...]) -> None:
    """Watch, process and keep the catalogue up to date."""
    settings = load_settings()
    configure_logging(settings, process="worker")
    names = [part.strip() for one in only for part in one.split(",") if part.strip()]
    serve(run_worker(settings, only=names))
