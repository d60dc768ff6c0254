"""Folders, servers and settings that a part measures in; all of it is gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.settings import Settings, load_settings
from tests.servers import RedisServer

NOWHERE = Path("/nonexistent")
"""A place for settings whose folders are never used."""


@contextmanager
def folder(name: str) -> Iterator[Path]:
    """A new folder on the disk (TMPDIR says which), removed with all that is in it."""
    place = Path(tempfile.mkdtemp(prefix=f"spoolhouse-bench-{name}-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def redis(place: Path, fsync: str = "always") -> Iterator[RedisServer]:
    """A Redis with an append-only file."""
    with RedisServer(place / f"redis-{fsync}", args=("--appendfsync", fsync)) as server:
        yield server


def settings(place: Path, **overrides: Any) -> Settings:
    """Settings with their data below `place`, nothing taken from the environment."""
    for name in [name for name in os.environ if name.startswith(("SPOOLHOUSE_", "MYSQL_"))]:
        del os.environ[name]
    return load_settings(**{"_env_file": None, "data": place / "data", "port": "0", **overrides})
