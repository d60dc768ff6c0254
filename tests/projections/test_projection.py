"""A projection is one new file, and nothing else is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import projections
from projections.projection import discover
from projections.runner import Runner
from streams.settings import Settings
from tests.projections.conftest import World, applied

NEW = '''
"""Counts events by type."""

from collections import Counter
from sqlalchemy import Column, Integer, String
from projections import tables
from projections.dialects import upsert_many
from projections.projection import Projection

event_counts = tables.table(
    "event_counts", Column("type", String(64), primary_key=True), Column("events", Integer, nullable=False)
)


class EventCounts(Projection):
    name = "event_counts"
    tables = (event_counts,)

    async def apply(self, conn, tables, events):
        counted = Counter(one.type for one in events)
        rows = [{"type": name, "events": count} for name, count in sorted(counted.items())]
        await upsert_many(conn, tables["event_counts"], rows, add=frozenset({"events"}))
'''


@pytest.fixture
def new_projection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file in the folder."""
    (tmp_path / "event_counts.py").write_text(NEW)
    monkeypatch.setattr(projections, "__path__", [*projections.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "projections.event_counts", raising=False)


async def test_a_new_file_is_all_it_takes(world: World, new_projection: None) -> None:
    """It is found, built from the whole log, followed and rebuilt like the others."""
    await world.happenings.uploads_many(30)
    (found,) = [one for one in discover(world.settings) if one.name == "event_counts"]
    async with world.running("event_counts") as runner:
        await applied(runner)
        await world.happenings.uploads_many(12, start=30)
        await applied(runner)
        assert await world.rows("event_counts") == [{"type": "VideoStored", "events": 42}]
        assert await runner.rebuild(compare=True) == {"event_counts": []}
    assert isinstance(runner, Runner)
    assert found.version == 1


def test_the_projections_of_this_folder_are_found(settings: Settings) -> None:
    """By name."""
    names = [one.name for one in discover(settings)]
    assert [name for name in names if name != "event_counts"] == [
        "activity_log",
        "catalogue",
        "download_config",
        "downloads",
        "legacy_videos",
        "media",
        "replicas",
        "storage_stats",
        "subscriptions",
        "timeline",
    ]
