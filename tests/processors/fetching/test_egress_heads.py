"""What the egress proxy understands of HTTP, and what it passes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.fetching.egress_heads import BadHeadError, read_request, read_response


def asked(*lines: str) -> bytes:
    """A head of these lines."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def test_a_request_is_passed_on_in_its_origin_form() -> None:
    request = read_request(
        asked(
            "GET http://Example.com:8080/a?b=http://c/ HTTP/1.1",
            *("Host: 127.0.0.1", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive"),
            *("Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Upgrade: h2c"),
            *("Range: bytes=5-", "Cookie: a=b", "Accept:*/*"),
        )
    )
    assert (request.host, request.port, request.tunnel, request.body) == ("example.com", 8080, False, 0)
    assert request.credentials == b"Basic eDp5"
    assert request.head == asked(
        *("GET /a?b=http://c/ HTTP/1.1", "Host: Example.com:8080", "Range: bytes=5-", "Cookie: a=b", "Accept: */*"),
        "Connection: close",
    )


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        ("http://example.com", "/"),
        ("HTTP://example.com?x", "/?x"),
        ("http://example.com/x#y", "/x"),
        ("http://example.com//x", "//x"),
    ],
)
def test_a_target_keeps_its_path(target: str, origin: str) -> None:
    assert read_request(asked(f"GET {target} HTTP/1.0")).head.startswith(f"GET {origin} HTTP/1.0\r\n".encode())


def test_a_tunnel_is_asked_for_by_host_and_port() -> None:
    request = read_request(asked("CONNECT [2606:4700::1]:443 HTTP/1.0", "Host: elsewhere"))
    assert (request.tunnel, request.host, request.port, request.head) == (True, "2606:4700::1", 443, b"")


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (400, ["GET / HTTP/1.1", "Host: example.com"]),
        (400, ["GET https://example.com/ HTTP/1.1"]),
        (400, ["GET ftp://example.com/ HTTP/1.1"]),
        (400, ["GET http://example.com/"]),
        (400, ["GET  http://example.com/ HTTP/1.1"]),
        (400, ["GET http://example.com/ HTTP/2.0"]),
        (400, ["GET http://example.com/\tx HTTP/1.1"]),
        (400, ["GET http://example.com/\xfc HTTP/1.1"]),
        (400, ["G(T http://example.com/ HTTP/1.1"]),
        (400, ["\x16\x03\x01"]),
        (400, ["GET http://example.com/ HTTP/1.1", " folded: x"]),
        (400, ["GET http://example.com/ HTTP/1.1", "no colon"]),
        (400, ["GET http://example.com/ HTTP/1.1", "blank : x"]),
        (400, ["GET http://example.com/ HTTP/1.1", "A: b\nC: d"]),
        (400, ["GET http://example.com/ HTTP/1.1", "A: b\rC: d"]),
        (400, ["GET http://example.com/ HTTP/1.1", "A: b\x00"]),
        (400, ["POST http://example.com/ HTTP/1.1", "Content-Length: 5", "content-length: 6"]),
        (400, ["POST http://example.com/ HTTP/1.1", "Content-Length: +5"]),
        (400, ["POST http://example.com/ HTTP/1.1", "Content-Length: -1"]),
        (411, ["POST http://example.com/ HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"]),
        (411, ["POST http://example.com/ HTTP/1.1", "Transfer-Encoding : chunked".replace(" :", ":")]),
        (403, ["GET http://127.1/ HTTP/1.1"]),
        (403, ["GET http://user@example.com/ HTTP/1.1"]),
        (403, ["GET http:///x HTTP/1.1"]),
        (403, ["CONNECT example.com HTTP/1.1"]),
        (403, ["CONNECT 0x7f000001:443 HTTP/1.1"]),
        (403, ["CONNECT [fe80::1%25lo]:443 HTTP/1.1"]),
        (403, ["CONNECT http://example.com:443 HTTP/1.1"]),
    ],
)
def test_what_is_not_plain_is_turned_away(status: int, lines: list[str]) -> None:
    with pytest.raises(BadHeadError) as told:
        read_request(asked(*lines))
    assert told.value.status == status
    assert str(told.value)


def test_nothing_follows_on_the_connection_of_an_answer() -> None:
    status, head = read_response(
        asked(
            *("HTTP/1.1 200 OK", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5"),
            *("Transfer-Encoding: chunked", "Content-Type: text/html", "Proxy-Authenticate: Basic"),
        )
    )
    assert status == 200
    assert head == asked(
        "HTTP/1.1 200 OK", "Content-Type: text/html", "Transfer-Encoding: chunked", "Connection: close"
    )


def test_an_answer_in_an_old_form_is_passed_on_in_the_usual_one() -> None:
    status, head = read_response(b"HTTP/1.0 206 \xfcber\nA: b\r\n  folded\nno header\nC : d\nE:f\n\n")
    assert (status, head) == (206, b"HTTP/1.0 206 \xfcber\r\nA: b folded\r\nE: f\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    "first", ["HTTP/0.9 200", "HTTP/2 200 OK", "200 OK", "HTTP/1.1 999 x", "HTTP/1.1 101 x", "x", ""]
)
def test_what_is_no_answer_is_not_passed_on(first: str) -> None:
    with pytest.raises(BadHeadError):
        read_response(asked(first))


_WORDS = st.sampled_from(
    [
        *("GET", "CONNECT", " ", "http://", "example.com", ":443", "/", "HTTP/1.1", "\r\n", "\n", "\r", "Host: x"),
        *(
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Connection: host",
            "Proxy-X: 1",
            "\t",
            "\x00",
            ": ",
            "[::1]",
        ),
    ]
)


@given(
    st.lists(_WORDS | st.text(max_size=5), max_size=12).map("".join)
    | st.lists(_WORDS, max_size=4).map(lambda more: "GET http://example.com/ HTTP/1.1\r\n" + "".join(more))
)
def test_every_head_is_understood_or_turned_away(text: str) -> None:
    """What is passed on is one head, with one host, and nothing that was meant for us."""
    head = text.encode("utf-8", "surrogatepass").replace(b"\r\n\r\n", b"\r\n") + b"\r\n\r\n"
    try:
        request = read_request(head)
    except BadHeadError:
        return
    if not request.tunnel:
        assert request.head.count(b"\r\n\r\n") == 1
        assert request.head.endswith(b"\r\nConnection: close\r\n\r\n")
        lines = request.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert b"\n" not in b"".join(lines)
        names = [line.partition(b":")[0].lower() for line in lines[1:]]
        assert names.count(b"host") == 1
        assert not any(name.startswith(b"proxy-") or name == b"transfer-encoding" for name in names)
