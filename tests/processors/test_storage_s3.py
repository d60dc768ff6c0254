"""An S3 server as store: what goes over the wire, and what is said when the server is in trouble."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ipaddress
import random
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from processors.storage.stores import open_store
from streams.errors import TransientError
from tests.processors.storing import CHUNK, MakeSettings, failure, found, put
from tests.s3_faults import S3Faults
from tests.swift import READER_KEY, READER_SECRET, SECRET_KEY, SwiftServer

UseS3 = Callable[[SwiftServer], dict[str, str]]


@pytest.fixture
def chunk(rng: random.Random) -> bytes:
    """Ten mebibytes, as chunks have them."""
    return rng.randbytes(CHUNK)


async def test_makes_the_bucket(s3_env: dict[str, str], s3_server: SwiftServer, make_settings: MakeSettings) -> None:
    """Also where it vanished while Spoolhouse ran, and where two make it at once."""
    bucket = s3_env["SPOOLHOUSE_S3_BUCKET"]
    async with open_store(make_settings()) as store, open_store(make_settings()) as other:
        assert store.label == f"s3://{bucket} at {s3_server.url}"
        await asyncio.gather(store.prepare(), other.prepare())
        s3_server.client.delete_bucket(Bucket=bucket)
        await put(store, "a", b"x")
    assert s3_server.objects(bucket) == {"a": 1}


async def test_hashes_nothing_twice(s3_faults: S3Faults, make_settings: MakeSettings, chunk: bytes) -> None:
    """The digests that were handed in are what the server checks: with wrong ones it refuses the body."""
    right = {"sha256": hashlib.sha256(chunk).hexdigest(), "md5": hashlib.md5(chunk).hexdigest()}
    async with open_store(make_settings()) as store:
        await store.prepare()
        assert await store.put("a", chunk, **right) == right["md5"]
        sent = s3_faults.requests[-1].headers
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
    with S3Faults(s3_server.url, tls=context) as proxy:
        async with open_store(make_settings(s3_endpoint=proxy.url)) as store:
            told, _ = await failure(store.prepare())
            assert "certificate" in str(told) and "AWS_CA_BUNDLE" in str(told)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        async with open_store(make_settings(s3_endpoint=proxy.url)) as store:
            await store.prepare()
            await put(store, "a", chunk)
            assert proxy.requests[-1].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
            assert await store.get("a") == chunk
            with pytest.raises(TransientError, match="BadDigest"):
                await store.put("b", chunk, sha256="0" * 64, md5="0" * 32)


@pytest.mark.parametrize("early", [False, True], ids=["after the body", "before the body"])
async def test_a_server_in_trouble_is_waited_for(
    s3_faults: S3Faults, make_settings: MakeSettings, chunk: bytes, *, early: bool
) -> None:
    """As long as it asks for."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        for status, code, after in ((500, "InternalError", 5), (503, "ServiceUnavailable", 5), (503, "SlowDown", 7)):
            s3_faults.answer(status, code, early=early, headers={"Retry-After": "7"} if code == "SlowDown" else {})
            told, _ = await failure(put(store, "a", chunk))
            assert code in str(told) and "unreachable" not in str(told)
            assert told.retry_after == after
        await put(store, "a", chunk)
        assert await store.get("a") == chunk


async def test_one_object_that_fails_for_ever_does_not_hold_up_the_others(
    s3_faults: S3Faults, make_settings: MakeSettings
) -> None:
    """Only while the others pass: a server that takes nothing is down, however often it is asked."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        s3_faults.answer(500, "InternalError", times=float("inf"))
        for _ in range(5):
            await failure(put(store, "a/bad", b"x"))
        s3_faults.clear()
        s3_faults.answer(500, "InternalError", key="bad", times=float("inf"))
        for index in range(3):
            await put(store, f"a/good{index}", b"x")
        with pytest.raises(TransientError, match="InternalError"):
            await put(store, "a/bad", b"x")


async def test_another_etag_than_the_md5_is_said(s3_faults: S3Faults, make_settings: MakeSettings) -> None:
    """What is no MD5 (several parts, customers' keys) is only noted."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        s3_faults.wrong_etag(etag="f" * 32)
        with pytest.raises(TransientError) as told:
            await put(store, "a", b"x")
        assert "f" * 32 in str(told.value) and hashlib.md5(b"x").hexdigest() in str(told.value)
        s3_faults.wrong_etag(etag="f" * 32 + "-2")
        assert await put(store, "a", b"x") == "f" * 32 + "-2"


async def test_resets_are_survived_once_and_then_said(
    s3_faults: S3Faults, make_settings: MakeSettings, chunk: bytes
) -> None:
    """In mid-body, and in place of an answer: an object is whole or not there at all."""
    async with open_store(make_settings()) as store:
        await store.prepare()
        s3_faults.reset(after=3_000_000, times=2)
        told, _ = await failure(put(store, "a", chunk))
        assert "unreachable" in str(told) and s3_faults.url in str(told)
        assert await store.get("a") is None
        s3_faults.lose_reply()
        await put(store, "a", chunk)
        assert await store.get("a") == chunk


async def test_a_refusal_of_one_object_concerns_that_object(s3_faults: S3Faults, make_settings: MakeSettings) -> None:
    async with open_store(make_settings()) as store:
        await store.prepare()
        s3_faults.answer(403, "AccessDenied", key="secret", early=True, times=float("inf"), message="not this one")
        with pytest.raises(TransientError, match=r"a/secret \(AccessDenied\): not this one"):
            await put(store, "a/secret", b"x" * CHUNK)
        await put(store, "a/open", b"x")


async def test_a_full_store_is_said(s3_faults: S3Faults, make_settings: MakeSettings) -> None:
    async with open_store(make_settings()) as store:
        await store.prepare()
        s3_faults.answer(507, "XMinioStorageFull", message="drive is full")
        told, _ = await failure(put(store, "a", b"x"))
        assert "no room left" in str(told) and told.retry_after == 60.0


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_hangs_is_given_up(
    s3_faults: S3Faults, make_settings: MakeSettings, chunk: bytes, runner: Callable[..., None]
) -> None:
    """A body that nobody reads, an answer that never comes, for large and small; nothing else times them out."""

    async def hanging() -> None:
        async with open_store(make_settings(s3_timeout=0.5)) as store:
            await store.prepare()
            await put(store, "a", chunk)
            for fault in (s3_faults.hang, s3_faults.mute):
                for data in (chunk, b"x"):
                    fault()
                    told, took = await failure(put(store, "a", data))
                    assert "Read timeout" in str(told) and 0.4 < took < 5
                    assert told.retry_after == 5.0
            s3_faults.hang(method="GET")
            told, took = await failure(store.get("a"))
            assert "Read timeout" in str(told) and 0.4 < took < 5
            await put(store, "a", chunk)

    runner(hanging())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_is_slow_but_moves_is_not_given_up(
    s3_faults: S3Faults, make_settings: MakeSettings, rng: random.Random, runner: Callable[..., None]
) -> None:
    """It takes several times the time without progress that is allowed."""
    data = rng.randbytes(3 * 2**20)

    async def slow() -> None:
        async with open_store(make_settings(s3_timeout=1.0)) as store:
            await store.prepare()
            s3_faults.crawl(piece=65536, pause=0.05)
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
    s3_faults: S3Faults, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storm of retries. Right ones are found by themselves, where they come from a file."""
    async with open_store(make_settings()) as store:
        await store.prepare()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    s3_faults.requests.clear()
    async with open_store(make_settings()) as store:
        for doing in (store.prepare(), put(store, "a", b"x"), store.get("a"), store.head("a"), store.delete(["a"])):
            told, _ = await failure(doing)
            assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(told)
            assert "unreachable" not in str(told) and "not-the-secret" not in str(told)
            assert told.retry_after == 60.0
        assert len(s3_faults.requests) <= 8
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        await put(store, "a", b"x")


async def test_a_forbidden_bucket_is_said(
    s3_faults: S3Faults, make_settings: MakeSettings, bucket: str, monkeypatch: pytest.MonkeyPatch
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
