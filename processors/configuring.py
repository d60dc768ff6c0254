"""How downloads are made just now, as the log tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.download_config import DownloadConfig, configured
from streams.events import DownloadConfigChanged
from streams.identity import DOWNLOAD_CONFIG
from streams.queries import Histories
from streams.settings import Settings


async def configuration(histories: Histories, settings: Settings) -> DownloadConfig:
    """The settings' values, and above them what a person changed. Raises LogUnavailableError."""
    changed: Mapping[str, Any] = {}
    for recorded in await histories.history(DOWNLOAD_CONFIG):
        if isinstance(recorded.event, DownloadConfigChanged):
            changed = recorded.event.config
    return configured(settings, changed)
