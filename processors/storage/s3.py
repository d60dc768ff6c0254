"""Objects in a bucket of an S3-compatible server."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from botocore.exceptions import CredentialRetrievalError

from processors.ports import StoredObject
from processors.storage import s3_errors
from processors.storage.s3_client import CONNECTIONS, SHA256, new_client
from streams.errors import DependencyDownError, SpoolhouseError, TransientError
from streams.settings import Settings

REMEMBERED = 300.0
"""Seconds for which a bucket that was there is taken to be there."""

DELETING = 16
"""Objects that are removed side by side: not all servers know S3's way to remove many at once."""

MD5 = re.compile(r"[0-9a-f]{32}")

_log = structlog.get_logger(__name__)


FINDING_CREDENTIALS = 20.0
"""Seconds that the search for credentials may take: some of AWS's places are servers."""

SUSPICIOUS = 3
"""Failures of one object, while others succeed, after which the server is no longer taken to be down."""


@asynccontextmanager
async def open_s3(settings: Settings) -> AsyncIterator[S3Store]:
    """The store behind `s3_endpoint`, or Amazon's. Nothing is asked of it yet."""
    store = S3Store(settings)
    try:
        yield store
    finally:
        await store.close()


class S3Store:
    """The ObjectStore that is a bucket; see `ports.ObjectStore`. Open it with `open_s3`."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._bucket = settings, settings.bucket
        self._endpoint = settings.s3_endpoint or f"https://{self._bucket}.s3.amazonaws.com"
        self.label = f"s3://{self._bucket}" + (f" at {settings.s3_endpoint}" if settings.s3_endpoint else "")
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._opening, self._preparing = asyncio.Lock(), asyncio.Lock()
        self._client: Any = None
        self._open = AsyncExitStack()
        self._seen = float("-inf")
        self._suspects = _Suspects()

    async def close(self) -> None:
        """End every connection; a later request opens new ones."""
        self._client, stack, self._open = None, self._open, AsyncExitStack()
        await stack.aclose()

    async def prepare(self) -> None:
        """Make the bucket where it is missing; see `ports.ObjectStore`."""
        if time.monotonic() - self._seen < REMEMBERED:
            return
        async with self._preparing:
            if time.monotonic() - self._seen < REMEMBERED:
                return
            try:
                await self._request("head_bucket")
            except s3_errors.ANY as error:
                await self._make_or_explain(error)
            self._seen = time.monotonic()

    async def put(self, key: str, data: bytes, *, sha256: str, md5: str) -> str:
        """Store an object; see `ports.ObjectStore`."""
        sent = {"Key": key, "Body": data, "ContentMD5": base64.b64encode(bytes.fromhex(md5)).decode(), SHA256: sha256}
        try:
            reply = await self._request("put_object", **sent)
        except s3_errors.ANY as error:
            if s3_errors.code_of(error) != "NoSuchBucket":
                raise await self._explained(error, key) from error
            _log.warning(
                "the bucket is gone, and is made again: what was in it is not. `spoolhouse verify --all --repair` helps",
                store=self.label,
            )
            self._seen = float("-inf")
            await self.prepare()
            try:
                reply = await self._request("put_object", **sent)
            except s3_errors.ANY as again:
                raise await self._explained(again, key) from again
        self._suspects.succeeded(key)
        etag = _bare(reply.get("ETag"))
        if self._is_md5(reply, etag) and etag != md5:
            raise TransientError(f"S3 stored something else as {self._bucket}/{key}: its ETag is {etag}, not {md5}")
        return etag

    async def get(self, key: str) -> bytes | None:
        """An object's content; see `ports.ObjectStore`."""
        try:
            reply = await self._request("get_object", Key=key)
        except s3_errors.ANY as error:
            if s3_errors.status_of(error) == 404:
                return None
            raise await self._explained(error, key) from error
        content: bytes = reply["Body"]
        return content

    async def head(self, key: str) -> StoredObject | None:
        """What is known of an object; see `ports.ObjectStore`."""
        try:
            reply = await self._request("head_object", Key=key)
        except s3_errors.ANY as error:
            if s3_errors.status_of(error) == 404:
                return None
            raise await self._explained(error, key) from error
        return StoredObject(key, int(reply["ContentLength"]), _bare(reply.get("ETag")))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose key begins with `prefix`; see `ports.ObjectStore`."""
        further: dict[str, str] = {}
        while True:
            try:
                page = await self._request("list_objects_v2", Prefix=prefix, **further)
            except s3_errors.ANY as error:
                if s3_errors.status_of(error) == 404:
                    return
                raise await self._explained(error, None) from error
            for one in page.get("Contents", ()):
                yield StoredObject(one["Key"], int(one["Size"]), _bare(one.get("ETag")))
            following = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not following or following == further.get("ContinuationToken"):
                return
            further = {"ContinuationToken": following}

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; see `ports.ObjectStore`."""
        for start in range(0, len(keys), DELETING):
            removed = await asyncio.gather(
                *(self._request("delete_object", Key=key) for key in keys[start : start + DELETING]),
                return_exceptions=True,
            )
            for key, error in zip(keys[start:], removed, strict=False):
                if isinstance(error, s3_errors.ANY):
                    if s3_errors.status_of(error) != 404:
                        raise await self._explained(error, key) from error
                elif isinstance(error, BaseException):
                    raise error

    async def _request(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request, its answer read whole; raises what botocore raises."""
        async with self._room:
            client = self._client or await self._connected()
            try:
                reply: dict[str, Any] = await getattr(client, operation)(Bucket=self._bucket, **parameters)
                if operation == "get_object":
                    async with reply["Body"] as body:
                        reply["Body"] = await body.read()
            except s3_errors.ANY as error:
                if s3_errors.concerns_credentials(error) and client is self._client:
                    await self.close()  # a new client looks for credentials anew
                raise
            return reply

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                try:
                    async with asyncio.timeout(FINDING_CREDENTIALS):
                        self._client = await self._open.enter_async_context(new_client(self._settings))
                except TimeoutError:
                    slow = f"no answer within {FINDING_CREDENTIALS:g} s"
                    raise CredentialRetrievalError(provider="of this machine", error_msg=slow) from None
            return self._client

    async def _make_or_explain(self, error: BaseException) -> None:
        status = s3_errors.status_of(error)
        if status in {400, 401, 403}:
            # The answer to HEAD has no body: this one says why.
            try:
                await self._request("list_objects_v2", MaxKeys=1)
            except s3_errors.ANY as why:
                raise self._in_words(why, None) from why
            return
        if status != 404:
            raise self._in_words(error, None) from error
        region = self._settings.s3_region or "us-east-1"
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self._request("create_bucket", **where)
        except s3_errors.ANY as why:
            if s3_errors.code_of(why) != "BucketAlreadyOwnedByYou":
                raise self._in_words(why, None) from why

    async def _explained(self, error: BaseException, key: str | None) -> SpoolhouseError:
        """What to raise: whether it concerns this object, or all of them, is not always in the answer."""
        vague = s3_errors.status_of(error) == 403 or s3_errors.code_of(error) == "400"
        if key is not None and vague and not s3_errors.concerns_credentials(error):
            self._seen = float("-inf")
            try:
                await self.prepare()
            except DependencyDownError as all_of_them:
                return all_of_them
        raised = self._in_words(error, key)
        if key is not None and isinstance(raised, DependencyDownError) and self._suspects.failed(key):
            return TransientError(f"{raised} (again and again at {self._bucket}/{key}, while other objects pass)")
        return raised

    def _in_words(self, error: BaseException, key: str | None) -> SpoolhouseError:
        return s3_errors.explained(
            error, bucket=self._bucket, endpoint=self._endpoint, timeout=self._settings.s3_timeout, key=key
        )

    def _is_md5(self, reply: dict[str, Any], etag: str) -> bool:
        """Whether an ETag claims to be the MD5: it is another thing with customers' keys and in directory buckets."""
        own_keys = "kms" in str(reply.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in reply
        return MD5.fullmatch(etag) is not None and not own_keys and not self._bucket.endswith("--x-s3")


class _Suspects:
    """Tells an object that the server fails at from a server that fails: else it would hold up all others for ever."""

    LIMIT = 1000

    def __init__(self) -> None:
        self._successes = 0
        self._failures: dict[str, tuple[int, int]] = {}  # how many, and how many successes there were at the first

    def succeeded(self, key: str) -> None:
        self._successes += 1
        self._failures.pop(key, None)

    def failed(self, key: str) -> bool:
        """Whether this object alone is to blame."""
        if len(self._failures) >= self.LIMIT:
            self._failures.clear()
        count, before = self._failures.get(key, (0, self._successes))
        self._failures[key] = count + 1, before
        return count + 1 >= SUSPICIOUS and self._successes - before >= SUSPICIOUS


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')
