"""A client of aiobotocore's that neither hashes what is hashed already nor waits for ever."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from aiohttp.payload import Payload
from aiohttp.resolver import ThreadedResolver
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.exceptions import ReadTimeoutError

from streams.settings import Settings

PIECE = 128 * 1024
"""Bytes of a body that are handed out at once: the progress that is watched."""

WORTH_ASKING = 1024 * 1024
"""Bytes of a body from which on the server is asked beforehand whether it wants it."""

UNSENT = 128 * 1024
"""Bytes that the kernel may hold unsent, so that what was handed out has nearly left."""

CONNECTIONS = 64
"""Requests that go on at once, at most."""

SHA256 = "SpoolhouseSHA256"
"""The parameter of put_object under which the hex digest of the body is handed in."""


def new_client(settings: Settings) -> AbstractAsyncContextManager[Any]:
    """An S3 client for the endpoint, region and timeouts of these settings; credentials as AWS's tools find them."""
    session = get_session()
    session.user_agent_name = "spoolhouse"
    events = session.get_component("event_emitter")
    events.register("provide-client-params.s3.PutObject", _take_digest)
    events.register("choose-signer.s3.PutObject", _sign_with_digest)
    return session.create_client(  # type: ignore[no-any-return]
        "s3",
        region_name=settings.s3_region or "us-east-1",
        endpoint_url=settings.s3_endpoint,
        config=_config(settings),
    )


def _config(settings: Settings) -> AioConfig:
    host = urlsplit(settings.s3_endpoint or "").hostname or "amazonaws.com"
    elsewhere = not host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and host != "amazonaws.com"
    return AioConfig(
        signature_version="s3v4",
        connect_timeout=settings.s3_connect_timeout,
        read_timeout=settings.s3_timeout,
        max_pool_connections=CONNECTIONS,
        # An outage is to be seen at once, and the processor tries again: botocore does not.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # The newer default checksums are refused by many a server that speaks S3.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if elsewhere else "auto"},
        http_session_cls=_Session,
        connector_args={
            "resolver": _Resolver(settings.s3_connect_timeout),
            "socket_factory": _new_socket,
            "keepalive_timeout": 20.0,
        },
    )


class _Session(AIOHTTPSession):  # type: ignore[misc]
    """Gives up a request whose body nobody takes: aiohttp watches for silence only once all of it is sent."""

    continues = False
    """Whether the server has ever answered 100 Continue."""
    asks = True
    """Whether it is asked to, so that a refusal comes before megabytes are sent in vain."""

    async def send(self, request: Any) -> Any:
        body = request.body.getvalue() if isinstance(request.body, io.BytesIO) else request.body
        if not isinstance(body, bytes) or not body:
            return await super().send(request)
        if (len(body) < WORTH_ASKING or not self.asks) and "Expect" in request.headers:
            del request.headers["Expect"]
        loop, patience = asyncio.get_running_loop(), self._timeout.sock_read
        asked, taken = "Expect" in request.headers, False

        def moved() -> None:
            nonlocal taken
            taken = True
            watch.reschedule(loop.time() + patience)

        try:
            async with asyncio.timeout(patience) as watch:
                request.body = _Body(body, moved)
                return await super().send(request)
        except TimeoutError as error:
            if asked and not taken and not self.continues:
                self.asks = False  # perhaps it does not know how to
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        finally:
            request.body = body
            self.continues = self.continues or (asked and taken)


class _Body(Payload):
    """A body in pieces that may be sent again, and calls `moved` whenever one has gone out."""

    _autoclose = True

    def __init__(self, body: bytes, moved: Callable[[], None]) -> None:
        super().__init__(body)
        self._size, self._moved = len(body), moved

    async def write(self, writer: Any) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), PIECE):
            await writer.write(view[start : start + PIECE])
            self._moved()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)


class _Resolver(ThreadedResolver):
    """Name look-ups that end in time."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
        async with asyncio.timeout(self._patience):
            return await super().resolve(host, port, family)


def _new_socket(address: Any) -> socket.socket:
    """A socket in which little lies unsent: else megabytes count as handed out that have not moved."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.settimeout(0)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return made


# ---------------------------------------------------------------- signatures


class _KnownPayloadAuth(S3SigV4Auth):  # type: ignore[misc]
    """S3's signature version 4, over a body whose hash is known: it is not hashed once more."""

    def payload(self, request: Any) -> Any:
        known = request.context.get(SHA256)
        if known is None or not self._should_sha256_sign_payload(request):
            return super().payload(request)  # by TLS: UNSIGNED-PAYLOAD
        return known


_KNOWN_PAYLOAD = "s3v4-known-payload"
AUTH_TYPE_MAPS[_KNOWN_PAYLOAD] = _KnownPayloadAuth


def _take_digest(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any] | None:
    if SHA256 not in params:
        return None
    context[SHA256] = params[SHA256]
    return {name: value for name, value in params.items() if name != SHA256}


def _sign_with_digest(signature_version: str, context: dict[str, Any], **_: Any) -> str | None:
    return _KNOWN_PAYLOAD if signature_version == "s3v4" and SHA256 in context else None
