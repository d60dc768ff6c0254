"""Forms as they arrive: whole or refused, whatever the pieces they come in."""

from __future__ import annotations

import asyncio
import random
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader

from api.multipart import Form
from streams.errors import RejectedError

BOUNDARY = b"----spool"


def reader(pieces: list[bytes]) -> StreamReader:
    """A body that has arrived in these pieces (only aiohttp's flow control is stood in for)."""
    stream = StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
    for piece in pieces:
        stream.feed_data(piece)
    stream.feed_eof()
    return stream


def part(disposition: str, content: bytes, extra: str = "") -> bytes:
    """One part as it goes over the wire."""
    headers = f"Content-Disposition: form-data; {disposition}\r\n{extra}\r\n".encode()
    return b"--" + BOUNDARY + b"\r\n" + headers + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


async def read(pieces: list[bytes]) -> list[tuple[str, str | None, str, bytes]]:
    """Everything in a form."""
    return [
        (one.name, one.filename, one.mime, b"".join([chunk async for chunk in one.chunks()]))
        async for one in Form(reader(pieces), BOUNDARY).parts()
    ]


async def test_any_cutting_into_pieces_reads_the_same(rng: random.Random) -> None:
    """A form is the same form, byte for byte, however the network cuts it; boundaries in disguise too."""
    tricky = b"\r\n--" + BOUNDARY[:-1] + b"\r\n-\r\n--\r" + rng.randbytes(3000) + b"\r\n--"
    whole = body(
        part('name="contentType"', b"Tutorial"),
        part('name="video"; filename="a b.mp4"', tricky, "Content-Type: video/mp4\r\n"),
        part('name="empty"; filename="e"', b""),
    )
    expected = [
        ("contentType", None, "", b"Tutorial"),
        ("video", "a b.mp4", "video/mp4", tricky),
        ("empty", "e", "", b""),
    ]
    assert await read([whole]) == expected
    assert await read([whole[i : i + 1] for i in range(len(whole))]) == expected
    for _ in range(50):
        cuts = sorted(rng.sample(range(len(whole)), rng.randrange(1, 40)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert await read([piece for piece in pieces if piece]) == expected


async def test_a_body_that_ends_early_is_never_a_shorter_file(rng: random.Random) -> None:
    """Cut off anywhere before the closing boundary: refused."""
    whole = body(part('name="video"; filename="v"', b"x" * 100))
    closing = len(whole) - len(b"\r\n")
    for end in range(closing):
        with pytest.raises(RejectedError):
            await read([whole[:end]] if end else [])
    assert await read([whole[:closing]]) == [("video", "v", "", b"x" * 100)]


async def test_what_is_not_taken_is_skipped() -> None:
    """A part that no one reads does not get in the way of the next."""
    form = Form(reader([body(part('name="junk"', b"j" * 300_000), part('name="b"', b"2"))]), BOUNDARY)
    assert [one.name async for one in form.parts()] == ["junk", "b"]


async def test_a_part_without_content_may_end_at_its_headers() -> None:
    """The boundary may share the line end that closes the headers."""
    raw = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n--' + BOUNDARY + b"--"
    assert await read([raw]) == [("a", None, "", b"")]
    assert await read([raw[i : i + 1] for i in range(len(raw))]) == [("a", None, "", b"")]


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('name="video"; filename="a;b=c.mp4"', "a;b=c.mp4"),
        ('name="video"; filename="say \\"hi\\".mp4"', 'say "hi".mp4'),
        ("name=video; filename=plain.mp4", "plain.mp4"),
        ('name="video"; filename="x.mp4"; filename*=UTF-8\'\'%E2%82%AC.mp4', "€.mp4"),
        ('name="video"; filename="größe ümläut 日本.mp4"', "größe ümläut 日本.mp4"),
        ('name="video"; filename="..\\..\\evil.mp4"', "..\\..\\evil.mp4"),
        ('name="video"; filename=""', ""),
        ('name="video"', None),
    ],
)
async def test_names_as_browsers_and_curl_write_them(disposition: str, filename: str | None) -> None:
    """Quotes, semicolons, Unicode, RFC 5987."""
    assert (await read([body(part(disposition, b"1"))]))[0][:2] == ("video", filename)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no form at all",
        b"x" * 200_000,
        b"--" + BOUNDARY + b"garbage\r\n\r\n",
        b"--" + BOUNDARY + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n--" + BOUNDARY + b"--\r\n",
        b"--" + BOUNDARY + b"\r\n" + b"A: b\r\n" * 10_000,
        body(part('name="v"; filename="f"', b"eA==", "Content-Transfer-Encoding: base64\r\n")),
        body(*(part(f'name="p{i}"', b"") for i in range(200))),
    ],
)
async def test_what_is_no_form_is_refused(raw: bytes) -> None:
    """Bounded, and with words."""
    with pytest.raises(RejectedError) as refused:
        await read([raw])
    assert refused.value.status == 400


async def test_a_text_field_is_bounded() -> None:
    """A field cannot fill the memory."""
    async for one in Form(reader([body(part('name="contentType"', b"x" * 5000))]), BOUNDARY).parts():
        with pytest.raises(RejectedError, match="contentType"):
            await one.text(1000)
        break


async def test_a_sender_that_falls_silent_is_given_up() -> None:
    """No bytes for a while: 408."""
    stream = StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(b"--" + BOUNDARY + b"\r\n")
    with pytest.raises(RejectedError) as refused:
        async for _ in Form(stream, BOUNDARY, idle=0.02).parts():
            pass
    assert refused.value.status == 408
