"""A directory on another disk as store."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from processors.storage.stores import open_store
from streams.errors import PoisonError, StartError
from tests.processors.storing import MakeSettings, failure, found, put


@pytest.mark.parametrize("key", ["../up", "a/../../up", "/etc/passwd", "a//b", "", ".", "a/.", "a\0b", ".unfinished/a"])
async def test_no_key_leaves_the_directory(
    other_disk: Path, make_settings: MakeSettings, bucket: str, key: str
) -> None:
    async with open_store(make_settings(s3_endpoint=other_disk.as_uri(), s3_bucket=bucket)) as store:
        await store.prepare()
        for doing in (put(store, key, b"x"), store.get(key), store.head(key), store.delete([key])):
            with pytest.raises(PoisonError, match="no key"):
                await doing
    assert [path.name for path in other_disk.rglob("*")] == [bucket, ".unfinished"]


@pytest.mark.parametrize("originals", ["upload_dir", "watch"])
async def test_a_directory_on_the_disk_of_the_originals_is_refused(
    make_settings: MakeSettings, tmp_path: Path, other_disk: Path, originals: str
) -> None:
    """Of uploads or of watched folders, also those that are not made yet."""
    apart = {
        "upload_dir": other_disk / "up",
        "watch": str(other_disk / "inbox"),
        originals: str(tmp_path / "not" / "yet"),
    }
    folder = tmp_path / "copies"
    folder.mkdir()
    with pytest.raises(StartError, match=r"same file system as .*not/yet"):
        async with open_store(make_settings(s3_endpoint=folder.as_uri(), **apart)):
            pass


async def test_a_folder_that_is_not_mounted_is_waited_for(
    other_disk: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """It is never made, and nothing is written to what lies below the mount point."""
    folder = other_disk / "disk"
    async with open_store(make_settings(s3_endpoint=folder.as_uri())) as store:
        for doing in (store.prepare(), put(store, "a", b"x"), store.get("a"), found(store, "")):
            told, _ = await failure(doing)
            assert str(folder) in str(told)
        assert not folder.exists()
        folder.mkdir()
        await store.prepare()
        await put(store, "a", b"x")
        folder.rename(other_disk / "away")
        folder.symlink_to(tmp_path)  # as if it were the root's disk by now
        for doing in (store.prepare(), put(store, "b", b"x"), store.get("a")):
            await failure(doing)
        assert not (tmp_path / "videos").exists()
        folder.unlink()
        folder.mkdir()  # its disk, emptied: what is not there is not said to be missing
        await failure(store.get("a"))


async def test_a_full_disk_is_said_and_nothing_half_written_stays(
    tmpfs: Path, make_settings: MakeSettings, rng: random.Random
) -> None:
    big = rng.randbytes(9 * 2**20)
    async with open_store(make_settings(s3_endpoint=tmpfs.as_uri())) as store:
        await store.prepare()
        told, _ = await failure(put(store, "a/b", big))
        assert "no room left" in str(told)
        assert await found(store, "") == []
        assert list((tmpfs / "videos" / ".unfinished").iterdir()) == []
        await put(store, "a/b", big[: 2**20])


async def test_what_a_killed_process_left_is_cleared_away(other_disk: Path, make_settings: MakeSettings) -> None:
    """Once it is a day old: another worker may be at it."""
    unfinished = other_disk / "videos" / ".unfinished"
    unfinished.mkdir(parents=True)
    for name, age in (("old", 90_000), ("young", 60)):
        (unfinished / name).write_bytes(b"half")
        os.utime(unfinished / name, (time.time() - age,) * 2)
    async with open_store(make_settings(s3_endpoint=other_disk.as_uri())) as store:
        assert store.label == f"file://{other_disk}/videos"
        await store.prepare()
        assert await found(store, "") == []
    assert [path.name for path in unfinished.iterdir()] == ["young"]
