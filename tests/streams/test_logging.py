"""What the log shows, and what it never shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAILS = """
import structlog
from streams.logging import configure_logging
from streams.settings import load_settings

def send(uri):
    raise ValueError("it breaks off")

configure_logging(load_settings(log_format="{form}"), process="worker")
try:
    send("https://drive/upload?upload_id=" + "secret"[::-1])
except ValueError:
    structlog.get_logger().exception("a processor failed")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_variables(form: str) -> None:
    """Upload sessions' addresses and tokens are among them."""
    ran = subprocess.run(
        [sys.executable, "-c", FAILS.format(form=form)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "it breaks off" in ran.stderr and "a processor failed" in ran.stderr
    assert "terces" not in ran.stderr
