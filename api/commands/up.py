"""`spoolhouse up`: everything on this machine, in one terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from api.supervisor import supervise
from streams.settings import load_settings


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder for everything that is kept [default: data].")
@click.option("--port", metavar="N[,N…]", help="TCP port of the API, or several [default: 8000].")
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option(
    "--watch",
    "watched",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder to watch; may be given several times [default: inbox in the data folder].",
)
@click.option("--demo", is_flag=True, help="Make a short video and take it in, to have something to see.")
def up(data: Path | None, port: str | None, host: str | None, watched: tuple[Path, ...], *, demo: bool) -> None:
    """Start Spoolhouse: log, catalogue, API and workers; Ctrl-C ends it in order.

    Options win over SPOOLHOUSE_DATA, SPOOLHOUSE_PORT, SPOOLHOUSE_HOST, SPOOLHOUSE_WATCH and .env.
    """
    chosen: dict[str, Any] = {"data": data, "port": port, "host": host, "watch": watched or None}
    settings = load_settings(**{name: value for name, value in chosen.items() if value is not None})
    asyncio.run(supervise(settings, demo=demo, say=click.echo))
