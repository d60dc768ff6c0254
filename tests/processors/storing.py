"""What the tests of object stores share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from processors.ports import ObjectStore
from streams.errors import DependencyDownError
from streams.settings import Settings
from tests.swift import SECRET_KEY

CHUNK = 10 * 2**20
MakeSettings = Callable[..., Settings]


async def put(store: ObjectStore, key: str, data: bytes) -> str:
    """Put with the digests that belong to the data."""
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
    return await store.put(key, data, **digests)


async def found(store: ObjectStore, prefix: str) -> list[str]:
    """The keys of a listing."""
    return [one.key async for one in store.list(prefix)]


async def failure(doing: Awaitable[Any]) -> tuple[DependencyDownError, float]:
    """That the store is down as a whole, and how many seconds it took to say so."""
    began = time.monotonic()
    with pytest.raises(DependencyDownError) as told:
        await doing
    assert SECRET_KEY not in str(told.value), "secrets are not shown"
    return told.value, time.monotonic() - began
