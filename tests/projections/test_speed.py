"""Projections keep up: rates beside one explicit multi-row upsert of the same rows (a short form of the bench)."""

from __future__ import annotations

from collections.abc import Callable

from streams.settings import Settings
from tests.projections.speed import measure


async def test_rates_stay_in_proportion(
    make_settings: Callable[..., Settings], redis_url: str, mariadb_url: str
) -> None:
    """The bench asks for 0.15 (live) and 0.3 (rebuild); half of that here, since other tests run beside."""
    speed = await measure(make_settings(catalogue_url=mariadb_url), redis_url, 6000)
    assert speed.live >= 0.075 * speed.upsert, speed
    assert speed.rebuild >= 0.15 * speed.upsert, speed
