"""What every object store keeps to: an S3 server, and a directory on another disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from processors.storage.stores import open_store
from streams.settings import Settings
from tests.swift import SwiftServer


def digests(data: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}


async def test_s3(s3_env: dict[str, str], make_settings: Callable[..., Settings], s3_server: SwiftServer, bucket: str):
    async with open_store(make_settings()) as store:
        await store.prepare()
        data = b"hello" * 400000
        etag = await store.put("a/b", data, **digests(data))
        assert etag == digests(data)["md5"]
        assert await store.get("a/b") == data
        assert await store.get("a/c") is None
        print(await store.head("a/b"), [o async for o in store.list("a")])
        assert s3_server.objects(bucket) == {"a/b": len(data)}
        await store.delete(["a/b", "a/x"])
        assert s3_server.objects(bucket) == {}
