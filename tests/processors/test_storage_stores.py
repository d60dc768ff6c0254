"""What every object store keeps to: an S3 server, and a directory on another disk."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from processors.ports import ObjectStore, StoredObject
from processors.storage.stores import open_store
from tests.processors.storing import CHUNK, MakeSettings, found, put


@pytest.fixture(params=["s3", "directory"])
async def store(request: pytest.FixtureRequest, make_settings: MakeSettings, bucket: str) -> AsyncIterator[ObjectStore]:
    """Every kind of store, its bucket made."""
    if request.param == "s3":
        request.getfixturevalue("s3_env")
        settings = make_settings()
    else:
        folder = request.getfixturevalue("other_disk")
        settings = make_settings(s3_endpoint=folder.as_uri(), s3_bucket=bucket)
    async with open_store(settings) as opened:
        await opened.prepare()
        yield opened


@pytest.mark.parametrize("size", [0, 1, 65537, CHUNK])
async def test_what_was_put_is_there(store: ObjectStore, rng: random.Random, size: int) -> None:
    data = rng.randbytes(size)
    etag = await put(store, "stream/chunk_000000.bin", data)
    assert await store.get("stream/chunk_000000.bin") == data
    assert await store.head("stream/chunk_000000.bin") == StoredObject(
        "stream/chunk_000000.bin", size, hashlib.md5(data).hexdigest() if etag else None
    )


async def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    await put(store, "a/b", b"the first, which is longer")
    await put(store, "a/b", b"the second")
    assert await store.get("a/b") == b"the second"
    assert await found(store, "") == ["a/b"]


async def test_nothing_is_said_of_what_is_not_there(store: ObjectStore) -> None:
    assert await store.get("a/b") is None
    assert await store.head("a/b") is None
    assert await found(store, "a/") == []
    await store.delete(["a/b", "c"])
    await store.delete([])


async def test_lists_all_pages_by_key(store: ObjectStore) -> None:
    """A listing of S3's comes in pages; a neighbour whose name begins alike is another one."""
    keys = [f"one/chunk_{index:06}.bin" for index in range(110)]
    for start in range(0, len(keys), 20):
        await asyncio.gather(*(put(store, key, b"x") for key in keys[start : start + 20]))
    await put(store, "one-more/chunk_000000.bin", b"y")
    assert await found(store, "one/") == keys
    assert await found(store, "one/chunk_00001") == keys[10:20]
    assert len(await found(store, "one")) == 111
    assert [one.size async for one in store.list("one-more/")] == [1]


async def test_deletes_what_is_named_and_no_more(store: ObjectStore) -> None:
    for key in ("a/1", "a/2", "b/1"):
        await put(store, key, b"x")
    await store.delete(["a/1", "a/2", "a/3"])
    assert await found(store, "") == ["b/1"]


async def test_takes_several_videos_side_by_side(store: ObjectStore, rng: random.Random) -> None:
    parts = {f"{video}/chunk_{index:06}.bin": rng.randbytes(2**20) for video in "abc" for index in range(8)}
    await asyncio.gather(*(put(store, key, data) for key, data in parts.items()))
    assert dict(zip(parts, await asyncio.gather(*map(store.get, parts)), strict=True)) == parts


async def test_preparing_twice_at_once_is_harmless(store: ObjectStore) -> None:
    await asyncio.gather(*(store.prepare() for _ in range(5)))


async def test_keys_hold_what_names_may(store: ObjectStore) -> None:
    key = "ä ö/100% +&?#=.bin"
    await put(store, key, b"x")
    assert await store.get(key) == b"x"
    assert await found(store, "ä ö/") == [key]
    await store.delete([key])
    assert await store.head(key) is None
