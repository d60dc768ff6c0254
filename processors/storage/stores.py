"""Opens the object store that is configured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from processors.ports import ObjectStore
from processors.storage.directory import open_directory
from streams.settings import Settings


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[ObjectStore]:
    """The store that `s3_endpoint` and `s3_bucket` name, open while the body runs. It may be down.

    Raises StartError for a directory that can hold no replica, since the originals lie on its disk.
    """
    if (settings.s3_endpoint or "").startswith("file:"):
        async with open_directory(settings) as directory:
            yield directory
        return
    from processors.storage.s3 import open_s3  # aiobotocore takes its time to load

    async with open_s3(settings) as bucket:
        yield bucket
