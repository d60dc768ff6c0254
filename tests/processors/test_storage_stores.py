"""What every object store keeps to (an S3 server, a directory on another disk), and what each does in trouble."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ipaddress
import os
import random
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from processors.ports import ObjectStore, StoredObject
from processors.storage.stores import open_store
from streams.errors import DependencyDownError, PoisonError, StartError, TransientError
from streams.settings import Settings
from tests.s3_faults import S3Faults
from tests.swift import READER_KEY, READER_SECRET, SECRET_KEY, SwiftServer

CHUNK = 10 * 2**20
MakeSettings = Callable[..., Settings]
UseS3 = Callable[[SwiftServer], dict[str, str]]


@pytest.fixture
def chunk(rng: random.Random) -> bytes:
    """Ten mebibytes, as chunks have them."""
    return rng.randbytes(CHUNK)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the test's own."""
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system in /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=place, prefix="spoolhouse-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def faults(s3_server: SwiftServer, s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Faults]:
    """The S3 server, seen through a proxy that misbehaves when told to; the settings name the proxy."""
    with S3Faults(s3_server.url) as proxy:
        monkeypatch.setenv("SPOOLHOUSE_S3_ENDPOINT", proxy.url)
        yield proxy


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


async def put(store: ObjectStore, key: str, data: bytes) -> str:
    """Put with the digests that belong to the data."""
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
    return await store.put(key, data, **digests)


async def found(store: ObjectStore, prefix: str) -> list[str]:
    return [one.key async for one in store.list(prefix)]


async def failure(doing: Awaitable[Any]) -> tuple[DependencyDownError, float]:
    """That the store is down as a whole, and how many seconds it took to say so."""
    began = time.monotonic()
    with pytest.raises(DependencyDownError) as told:
        await doing
    assert SECRET_KEY not in str(told.value), "secrets are not shown"
    return told.value, time.monotonic() - began


# ---------------------------------------------------------------- what all of them keep to


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


# ---------------------------------------------------------------- S3


async def test_makes_the_bucket(s3_env: dict[str, str], s3_server: SwiftServer, make_settings: MakeSettings) -> None:
    """Also where it vanished while Spoolhouse ran, and where two make it at once."""
    bucket = s3_env["SPOOLHOUSE_S3_BUCKET"]
    async with open_store(make_settings()) as store, open_store(make_settings()) as other:
        assert store.label == f"s3://{bucket} at {s3_server.url}"
        await asyncio.gather(store.prepare(), other.prepare())
        s3_server.client.delete_bucket(Bucket=bucket)
        await put(store, "a", b"x")
    assert s3_server.objects(bucket) == {"a": 1}


async def test_hashes_nothing_twice(faults: S3Faults, make_settings: MakeSettings, chunk: bytes) -> None:
    """The digests that were handed in are what the server checks: with wrong ones it refuses the body."""
    right = {"sha256": hashlib.sha256(chunk).hexdigest(), "md5": hashlib.md5(chunk).hexdigest()}
    async with open_store(make_settings()) as store:
        await store.prepare()
        assert await store.put("a", chunk, **right) == right["md5"]
        sent = faults.requests[-1].headers
        assert sent["x-amz-content-sha256"] == right["sha256"]
        assert "x-amz-checksum-crc32" not in sent and "x-amz-sdk-checksum-algorithm" not in sent
        with pytest.raises(TransientError, match="XAmzContentSHA256Mismatch"):
            await store.put("b", chunk, sha256="0" * 64, md5=right["md5"])
        with pytest.raises(TransientError, match="BadDigest"):
            await store.put("b", chunk, sha256=right["sha256"], md5="0" * 32)
        assert await store.head("b") is None


async def test_by_tls_the_payload_is_not_signed(
    s3_env: dict[str, str],
    s3_server: SwiftServer,
    make_settings: MakeSettings,
    tmp_path: Path,
    chunk: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS protects it, and its MD5 is checked. An authority that nobody knows is refused, and said."""
    authority = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with S3Faults(s3_server.url, tls=context) as faults:
        async with open_store(make_settings(s3_endpoint=faults.url)) as store:
            told, _ = await failure(store.prepare())
            assert "certificate" in str(told) and "AWS_CA_BUNDLE" in str(told)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        async with open_store(make_settings(s3_endpoint=faults.url)) as store:
            await store.prepare()
            await put(store, "a", chunk)
            assert faults.requests[-1].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
            assert await store.get("a") == chunk
            with pytest.raises(TransientError, match="BadDigest"):
                await store.put("b", chunk, sha256="0" * 64, md5="0" * 32)


@pytest.mark.parametrize("early", [False, True], ids=["after the body", "before the body"])
async def test_a_server_in_trouble_is_waited_for(
    faults: S3Faults, make_settings: MakeSettings, chunk: bytes, *, early: bool
) -> None:
    """As long as it asks for."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        for status, code, after in ((500, "InternalError", 5), (503, "ServiceUnavailable", 5), (503, "SlowDown", 7)):
            faults.answer(status, code, early=early, headers={"Retry-After": "7"} if code == "SlowDown" else {})
            told, _ = await failure(put(store, "a", chunk))
            assert code in str(told) and "unreachable" not in str(told)
            assert told.retry_after == after
        await put(store, "a", chunk)
        assert await store.get("a") == chunk


async def test_one_object_that_fails_for_ever_does_not_hold_up_the_others(
    faults: S3Faults, make_settings: MakeSettings
) -> None:
    """Only while the others pass: a server that takes nothing is down, however often it is asked."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        faults.answer(500, "InternalError", times=float("inf"))
        for _ in range(5):
            await failure(put(store, "a/bad", b"x"))
        faults.clear()
        faults.answer(500, "InternalError", key="bad", times=float("inf"))
        for index in range(3):
            await put(store, f"a/good{index}", b"x")
        with pytest.raises(TransientError, match="InternalError"):
            await put(store, "a/bad", b"x")


async def test_another_etag_than_the_md5_is_said(faults: S3Faults, make_settings: MakeSettings) -> None:
    """What is no MD5 (several parts, customers' keys) is only noted."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        faults.wrong_etag(etag="f" * 32)
        with pytest.raises(TransientError) as told:
            await put(store, "a", b"x")
        assert "f" * 32 in str(told.value) and hashlib.md5(b"x").hexdigest() in str(told.value)
        faults.wrong_etag(etag="f" * 32 + "-2")
        assert await put(store, "a", b"x") == "f" * 32 + "-2"


async def test_resets_are_survived_once_and_then_said(
    faults: S3Faults, make_settings: MakeSettings, chunk: bytes
) -> None:
    """In mid-body, and in place of an answer: an object is whole or not there at all."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        faults.reset(after=3_000_000, times=2)
        told, _ = await failure(put(store, "a", chunk))
        assert "unreachable" in str(told) and faults.url in str(told)
        assert await store.get("a") is None
        faults.lose_reply()
        await put(store, "a", chunk)
        assert await store.get("a") == chunk


async def test_a_refusal_of_one_object_concerns_that_object(faults: S3Faults, make_settings: MakeSettings) -> None:
    async with open_store(make_settings()) as store:
        await store.prepare()
        faults.answer(403, "AccessDenied", key="secret", early=True, times=float("inf"), message="not this one")
        with pytest.raises(TransientError, match=r"a/secret \(AccessDenied\): not this one"):
            await put(store, "a/secret", b"x" * CHUNK)
        await put(store, "a/open", b"x")


async def test_a_full_store_is_said(faults: S3Faults, make_settings: MakeSettings) -> None:
    async with open_store(make_settings()) as store:
        await store.prepare()
        faults.answer(507, "XMinioStorageFull", message="drive is full")
        told, _ = await failure(put(store, "a", b"x"))
        assert "no room left" in str(told) and told.retry_after == 60.0


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_hangs_is_given_up(
    faults: S3Faults, make_settings: MakeSettings, chunk: bytes, runner: Callable[..., None]
) -> None:
    """A body that nobody reads, an answer that never comes, for large and small; nothing else times them out."""

    async def hanging() -> None:
        async with open_store(make_settings(s3_timeout=0.5)) as store:
            await store.prepare()
            await put(store, "a", chunk)
            for fault in (faults.hang, faults.mute):
                for data in (chunk, b"x"):
                    fault()
                    told, took = await failure(put(store, "a", data))
                    assert "Read timeout" in str(told) and 0.4 < took < 5
                    assert told.retry_after == 5.0
            faults.hang(method="GET")
            told, took = await failure(store.get("a"))
            assert "Read timeout" in str(told) and 0.4 < took < 5
            await put(store, "a", chunk)

    runner(hanging())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_is_slow_but_moves_is_not_given_up(
    faults: S3Faults, make_settings: MakeSettings, rng: random.Random, runner: Callable[..., None]
) -> None:
    """It takes several times the time without progress that is allowed."""
    data = rng.randbytes(3 * 2**20)

    async def slow() -> None:
        async with open_store(make_settings(s3_timeout=1.0)) as store:
            await store.prepare()
            faults.crawl(piece=65536, pause=0.05)
            began = time.monotonic()
            await put(store, "a", data)
            assert time.monotonic() - began > 2.0
            assert await store.get("a") == data

    runner(slow())


async def test_a_server_that_never_says_continue_gets_its_bytes_all_the_same(
    s3_env: dict[str, str], make_settings: MakeSettings, chunk: bytes
) -> None:
    """It knows no `Expect`: the first request waits in vain, those after it do not ask."""
    asked = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                asked.append(b"expect" in headers)
                digest = hashlib.md5(await reader.readexactly(int(headers.get(b"content-length", 0)))).hexdigest()
                writer.write(b'HTTP/1.1 200 OK\r\nETag: "%s"\r\nContent-Length: 0\r\n\r\n' % digest.encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with open_store(make_settings(s3_endpoint=endpoint, s3_timeout=0.5)) as store:
            await store.prepare()
            await failure(put(store, "a", chunk))
            assert await put(store, "a", chunk) == hashlib.md5(chunk).hexdigest()
    assert asked == [False, True, False]


async def test_a_frozen_server_is_given_up_and_found_again(
    own_s3: SwiftServer, use_s3: UseS3, make_settings: MakeSettings, chunk: bytes
) -> None:
    """Its kernel takes connections and bytes all the same. So it was with one that is stopped, and one killed."""
    use_s3(own_s3)
    async with open_store(make_settings(s3_timeout=0.7)) as store:
        await store.prepare()
        await put(store, "a", chunk)
        with own_s3.frozen():
            for doing in (put(store, "b", chunk), put(store, "b", b"x"), store.get("a"), store.head("a")):
                told, took = await failure(doing)
                assert "Read timeout" in str(told) and took < 5
    async with open_store(make_settings()) as store:
        await put(store, "b", chunk)
        own_s3.kill()
        told, took = await failure(put(store, "c", chunk))
        assert f'Could not connect to the endpoint URL: "{own_s3.url}"' in str(told)
        assert took < 2 and told.retry_after == 5.0
        await failure(store.get("a"))
        await failure(store.head("a"))
        await failure(found(store, ""))
        await failure(store.delete(["a"]))
        own_s3.start()
        assert await store.get("b") == chunk
        await put(store, "c", chunk)


async def test_a_server_that_takes_no_connection_is_said_in_time(
    s3_env: dict[str, str], make_settings: MakeSettings
) -> None:
    """As behind a firewall that drops packets: the kernel's queue is full."""
    with socket.socket() as full, socket.socket() as one, socket.socket() as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for other in (one, two):
            other.settimeout(0)
            other.connect_ex(full.getsockname())
        endpoint = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with open_store(make_settings(s3_endpoint=endpoint, s3_connect_timeout=0.5)) as store:
            told, took = await failure(store.prepare())
    assert "Connect timeout" in str(told) and endpoint in str(told) and took < 4


async def test_a_name_that_is_none_is_said(s3_env: dict[str, str], make_settings: MakeSettings) -> None:
    async with open_store(make_settings(s3_endpoint="http://s3.invalid:9000")) as store:
        told, took = await failure(store.prepare())
    assert 'Could not connect to the endpoint URL: "http://s3.invalid:9000"' in str(told) and took < 5


async def test_bad_credentials_are_said_once_and_waited_for(
    faults: S3Faults, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storm of retries. Right ones are found by themselves, where they come from a file."""
    async with open_store(make_settings()) as store:
        await store.prepare()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    faults.requests.clear()
    async with open_store(make_settings()) as store:
        for doing in (store.prepare(), put(store, "a", b"x"), store.get("a"), store.head("a"), store.delete(["a"])):
            told, _ = await failure(doing)
            assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(told)
            assert "unreachable" not in str(told) and "not-the-secret" not in str(told)
            assert told.retry_after == 60.0
        assert len(faults.requests) <= 8
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        await put(store, "a", b"x")


async def test_a_forbidden_bucket_is_said(
    faults: S3Faults, make_settings: MakeSettings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(make_settings()) as store:
        await store.prepare()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    async with open_store(make_settings()) as store:
        for doing in (store.prepare(), put(store, "a", b"x"), store.get("a")):
            told, _ = await failure(doing)
            assert f"bucket {bucket}" in str(told) and "AccessDenied" in str(told)
            assert told.retry_after == 60.0


async def test_without_credentials_it_says_so_soon(
    s3_env: dict[str, str], make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the server that hands them out on Amazon's machines does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with open_store(make_settings()) as store:
            told, took = await failure(store.prepare())
    assert "AWS_ACCESS_KEY_ID" in str(told) and told.retry_after == 60.0
    assert took < 10


async def test_amazons_own_store_needs_no_endpoint(make_settings: MakeSettings) -> None:
    async with open_store(make_settings(s3_bucket="videos")) as store:
        assert store.label == "s3://videos"


# ---------------------------------------------------------------- a directory


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


def _certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody has signed but itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path = folder / "certificate.pem"
    path.write_bytes(text)
    return path
