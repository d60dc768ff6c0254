"""Redis and workers killed, frozen and restarted at random under load: briefly here, for long in scripts/soak."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.faults.chaos import Chaos
from tests.servers import RedisServer

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))


@pytest.mark.timeout(240 + 4 * SECONDS)
async def test_bad_luck_loses_and_doubles_nothing(
    make_settings: Callable[..., Settings], own_redis: RedisServer, tmp_path: Path, rng: random.Random
) -> None:
    """Nothing lost, nothing doubled, versions and positions dense, every effect once and in order."""
    figures = await Chaos(own_redis, tmp_path, make_settings(partitions=4, lease_ttl=1.0), rng).run(SECONDS)
    print(f"\n{figures}")
    assert figures.handled > 0
    assert figures.doubles == 0
