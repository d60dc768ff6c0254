"""How downloads are made, as a person changed it last: one row."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Integer

from projections import tables
from projections.projection import RowFold
from streams.codec import Recorded
from streams.download_config import SavedConfig
from streams.events import DownloadConfigChanged

Row = dict[str, Any]

download_config = tables.table(
    "download_config",
    # the subject: sys:downloads
    Column("id", tables.identifier(), primary_key=True),
    Column("change", Integer, nullable=False),
    # JSON
    Column("config", tables.long_text(), nullable=False),
    # free-form JSON, ours to keep
    Column("preferences", tables.long_text(), nullable=False),
    Column("changed", tables.moment(), nullable=False),
    Column("ver", BigInteger, nullable=False),
)


class DownloadConfigProjection(RowFold):
    """The last change says all."""

    name = "download_config"
    version = 1
    tables = (download_config,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """Changes of the configuration."""
        return isinstance(recorded.event, DownloadConfigChanged)

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:  # noqa: ARG002 # nothing of it is left
        """The row after the event."""
        event = recorded.event
        return {
            "id": recorded.subject,
            "change": event.change,
            "config": orjson.dumps(event.config).decode(),
            "preferences": orjson.dumps(event.preferences).decode(),
            "changed": tables.utc(recorded.time),
            "ver": recorded.ver,
        }


def as_saved(row: Row) -> SavedConfig:
    """The row in our words."""
    return SavedConfig(
        change=row["change"],
        config=orjson.loads(row["config"]),
        preferences=orjson.loads(row["preferences"]),
        ver=row["ver"],
        changed=tables.aware(row["changed"]),
    )
