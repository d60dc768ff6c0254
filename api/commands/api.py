"""`spoolhouse api`: one of the two processes that `spoolhouse up` starts."""

from __future__ import annotations

import click

from api.server import run_api
from api.showing import serve
from streams.logging import configure_logging
from streams.settings import load_settings


@click.command()
def api() -> None:
    """Serve the API and the web page."""
    settings = load_settings()
    configure_logging(settings, process="api")
    serve(run_api(settings))
