"""Fixtures for what processors meet on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """An empty folder that any user may enter; `tmp_path` lies below one that is pytest's own."""
    with tempfile.TemporaryDirectory(prefix="spoolhouse-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
