"""Which version of each projection is live: the table `projections`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from sqlalchemy import Column, Integer, String, select
from sqlalchemy.ext.asyncio import AsyncConnection

from projections.dialects import upsert_many
from projections.projection import Projection
from projections.tables import moment, table, utc

projections_table = table(
    "projections",
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    # Of the settings that its rows depend on.
    Column("fingerprint", String(64), nullable=False),
    Column("since", moment(), nullable=False),
)


def build_of(projection: Projection) -> str:
    """What tells tables of this version and these settings from others."""
    digest = hashlib.sha256(projection.fingerprint().encode()).hexdigest()[:16]
    return f"{projection.version}-{digest}"


async def note(conn: AsyncConnection, projection: Projection) -> None:
    """Write down that this version is live."""
    row = {
        "name": projection.name,
        "version": projection.version,
        "fingerprint": hashlib.sha256(projection.fingerprint().encode()).hexdigest(),
        "since": utc(datetime.now(UTC)),
    }
    await upsert_many(conn, projections_table, [row])


async def versions(conn: AsyncConnection) -> dict[str, int]:
    """Every projection's live version by its name."""
    rows = await conn.execute(select(projections_table.c.name, projections_table.c.version))
    return {row.name: row.version for row in rows}
