"""The heads of HTTP/1 messages, as far as a proxy must understand them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from processors.fetching.destinations import split_authority

REQUEST_END = re.compile(rb"\r\n\r\n")
RESPONSE_END = re.compile(rb"\n\r?\n")
"""Where a head ends."""

MAX_HEAD = 64 * 1024
"""Bytes of a head: the first line and the headers."""

Headers = tuple[tuple[bytes, bytes], ...]

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOP_BY_HOP = frozenset(
    [b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"]
)


class BadHeadError(ValueError):
    """It is no head that we would pass on; `status` is what its sender is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks of the proxy."""

    tunnel: bool
    """CONNECT: everything after it is none of our business."""
    host: str
    """As `destinations.checked_host` has it."""
    port: int
    credentials: bytes
    """The Proxy-Authorization."""
    head: bytes
    """What to send on; empty for a tunnel."""
    body: int
    """Bytes that follow the head and belong to it."""


def read_request(head: bytes) -> Request:
    """A request's head, with the empty line that ends it. Raises BadHeadError."""
    first, headers = _lines(head)
    words = first.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or words[2] not in {b"HTTP/1.0", b"HTTP/1.1"}:
        raise BadHeadError(400, "that is no HTTP/1 request")
    method, target, version = words
    if not re.fullmatch(rb"[\x21-\x7e]+", target):
        raise BadHeadError(400, "its target holds blanks, control characters or others that are not ASCII")
    credentials = b"".join(value for name, value in headers if name.lower() == b"proxy-authorization")
    if method == b"CONNECT":
        host, port = _authority(target, None)
        return Request(tunnel=True, host=host, port=port, credentials=credentials, head=b"", body=0)
    absolute = re.fullmatch(rb"(?i:http)://([^/?#]*)([^#]*)(?:#.*)?", target)
    if absolute is None:
        raise BadHeadError(400, "a proxy is asked for http:// URLs, or to CONNECT")
    host, port = _authority(absolute[1], 80)
    body = _body(headers)
    path = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    kept = [(b"Host", absolute[1])]
    kept += [(name, value) for name, value in _end_to_end(headers) if name.lower() not in {b"host", b"expect"}]
    kept.append((b"Connection", b"close"))
    passed_on = _joined(b" ".join((method, path, version)), kept)
    return Request(tunnel=False, host=host, port=port, credentials=credentials, head=passed_on, body=body)


def read_response(head: bytes) -> tuple[int, bytes]:
    """The status of an answer, and its head as it is passed on: nothing follows on this connection.

    What is no header is left out. Raises BadHeadError.
    """
    # Sites end lines and fold headers as they did thirty years ago, and clients understand them.
    whole = re.sub(rb"\r\n[ \t]+", b" ", re.sub(rb"\r?\n", b"\r\n", head))
    first, *lines = whole.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers = tuple(header for line in lines if (header := _header(line)) is not None)
    found = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?", first)
    if found is None:
        raise BadHeadError(502, "what came back is no HTTP/1 answer")
    status = int(found[1])
    if status == 101:
        raise BadHeadError(502, "it wants to speak another protocol")
    encoding = [(name, value) for name, value in headers if name.lower() == b"transfer-encoding"]
    closing = [] if status < 200 else [(b"Connection", b"close")]
    return status, _joined(first, [*_end_to_end(headers), *encoding, *closing])


def _lines(head: bytes) -> tuple[bytes, Headers]:
    """The first line, and the headers."""
    first, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers = [_header(line) for line in rest]
    if None in headers:
        raise BadHeadError(400, "one of its headers is none")
    return first, tuple(header for header in headers if header is not None)


def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """Name and value of a header; None where it is none."""
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
        return None
    return name, value.strip(b" \t")


def _authority(written: bytes, default: int | None) -> tuple[str, int]:
    try:
        return split_authority(written.decode("ascii"), default)
    except ValueError as error:
        raise BadHeadError(403, str(error)) from None


def _body(headers: Headers) -> int:
    """How much belongs to a request. One way only of saying so: two are how requests are smuggled."""
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        raise BadHeadError(411, "a request's body needs a Content-Length here")
    lengths = {value for name, value in headers if name.lower() == b"content-length"}
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"[0-9]{1,18}", length):
        raise BadHeadError(400, "its Content-Length is none")
    return int(length)


def _end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that are not between neighbours only."""
    named = {
        one.strip().lower() for name, value in headers if name.lower() == b"connection" for one in value.split(b",")
    }
    # Whoever names a header that the message cannot do without does not mean well.
    named -= {b"host", b"content-length", b"authorization", b"cookie", b"range"}
    return [
        (name, value)
        for name, value in headers
        if (low := name.lower()) not in _HOP_BY_HOP and low not in named and not low.startswith(b"proxy-")
    ]


def _joined(first: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([first, *(name + b": " + value for name, value in headers), b"", b""])
