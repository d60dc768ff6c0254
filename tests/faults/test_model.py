"""Hypothesis drives the log and a consumer group against a plain model; scripts/soak does so for long."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from streams.settings import Settings
from tests.faults.model import machine
from tests.servers import RedisServer

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "12"))
STEPS = int(os.environ.get("SOAK_STEPS", "25"))


@pytest.mark.timeout(0 if "SOAK_EXAMPLES" in os.environ else 240)
def test_the_log_does_what_the_model_says(
    request: pytest.FixtureRequest, redis_server: RedisServer, make_settings: Callable[..., Settings]
) -> None:
    """Append, read, acknowledge, fail, park, replay, discard, stop, crash, lose the lease: in any order."""
    under_test = seed(request.config.option.seed)(machine(redis_server, make_settings))
    run_state_machine_as_test(
        under_test,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.generate],  # timing is real: what failed cannot be made smaller by trying again
            report_multiple_bugs=False,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
