"""Where Redis is: the configured one, else the private one that `spoolhouse up` runs below the data folder."""

from __future__ import annotations

from api.embedded_redis import embedded_url
from streams.errors import StartError
from streams.settings import Settings


def redis_url(settings: Settings) -> str:
    """The URL of the log's Redis. Raises StartError where none is configured and none runs."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    url = embedded_url(settings.data / "redis")
    if url is None:
        raise StartError(
            f"No Redis is configured and none runs on {settings.data}. Start Spoolhouse there (spoolhouse up), "
            "name its data folder (SPOOLHOUSE_DATA), or set SPOOLHOUSE_REDIS_URL."
        )
    return url
