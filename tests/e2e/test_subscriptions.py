"""Subscriptions on the whole system: a feed that grows is followed, each new entry is fetched once, until nobody wants it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.downloading import ask, opened_to, site_beside, stored
from tests.e2e.running import Running, spoolhouse, until
from tests.sites import Item

INTERVAL = 1.0
"""Seconds between two looks."""


def films(*names: str) -> list[Item]:
    """Entries of a feed, the newest first."""
    return [Item(f"/films/{name}.mp4", f"Film {name}") for name in names]


def fetched(running: Running) -> list[str]:
    """The names of the films that were asked for, oldest first."""
    return [one["vid_url"].rpartition("/")[2].removesuffix(".mp4") for one in running.get("/videos") or []]


def test_a_feed_is_followed(tmp_path: Path) -> None:
    """Given a feed, then its newest entry and whatever comes is fetched; once it is removed, nothing is."""
    data = tmp_path / "data"
    settings = {"SPOOLHOUSE_SUBSCRIPTION_MIN_INTERVAL": str(INTERVAL), "SPOOLHOUSE_LEASE_TTL": "2"}
    with site_beside() as beside, spoolhouse(data, **opened_to(beside.site), **settings) as running:
        site = beside.site
        site.feeds["/feed"] = films("c", "b", "a")
        wish = {"url": site.url("/feed"), "interval": INTERVAL, "backlog": 1, "directory": "/followed"}
        status, told = ask(running, "POST", "/subscriptions", {"type": "subscription", "attributes": wish})
        assert (status, told["id"], told["backlog"]) == (200, 1, 1)
        until(lambda: fetched(running) == ["c"], why="the newest entry")
        first = stored(running, 1)
        assert (first["subscription"], first["title"], first["vid_dir"]) == (1, "Film c", "/followed"), first
        assert Path(first["file_path"]).is_relative_to(data / "media" / "followed")

        site.feeds["/feed"] = films("e", "d", "c", "b", "a")
        until(lambda: fetched(running) == ["c", "d", "e"], why="what came, the older first")
        stored(running, 3)
        now = running.get("/subscriptions/1")
        assert (now["title"], now["downloads"], now["error"]) == ("Feed /feed", 3, None), now

        asked = site.requests["/feed"]
        assert ask(running, "DELETE", "/subscriptions/1")[0] == 200
        assert running.get("/subscriptions") == []
        site.feeds["/feed"] = films("g", "f")
        time.sleep(3 * INTERVAL)
        assert site.requests["/feed"] <= asked + 1
        assert fetched(running) == ["c", "d", "e"]
        there = [path.name.partition(" (")[0] for path in (data / "media").rglob("*.mp4")]
        assert sorted(there) == ["Film c", "Film d", "Film e"]
