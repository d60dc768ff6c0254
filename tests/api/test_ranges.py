"""Which bytes a Range header asks for, beside a model that counts them one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import Span, UnsatisfiableError, asked_for

SIZE = 1000
ENORMOUS = "9" * 5000


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        (f"bytes=-{ENORMOUS}", 0, 1000),
        ("bytes=990-5000", 990, 1000),
        (f"bytes=990-{ENORMOUS}", 990, 1000),
        ("bytes=000010-0000019", 10, 20),
        ("Bytes=1-2", 1, 3),
        ("bytes= 1-2 ", 1, 3),
        ("bytes=0-9,10-19", 0, 20),
        ("bytes=0-9, 5-19", 0, 20),
        ("bytes=5-19,,0-9,", 0, 20),
        ("bytes=0-9,2000-", 0, 10),
        ("bytes=-0,0-9", 0, 10),
        ("bytes=-10,990-995", 990, 1000),
    ],
)
def test_one_piece(header: str, start: int, stop: int) -> None:
    """What exists of what is asked for, where that is one piece."""
    assert asked_for(header, SIZE) == Span(start, stop)


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=5-2", "bytes=a-b", "bytes=1-2-3", "bytes=--5", "bytes=+1-2"),
        *("bytes=1 - 2", "bytes=1-2;3-4", "bytes=0x1-0x2", "bytes=1.5-2", "bytes=١-٢", "bytes=1-2,x", "bytes=0-9,5-2"),
        *("items=0-5", "seconds=1-2", "=0-5", "0-5", "bytes 0-5", "bytes:0-5", "none"),
        *("bytes=0-0,-1", "bytes=0-9,20-29", "bytes=0-9,11-", ",".join(["bytes=0-0", *["0-0"] * 16])),
    ],
)  # fmt: skip
def test_the_whole(header: str) -> None:
    """Other units, what breaks the grammar, pieces that lie apart, and far too many of them."""
    assert asked_for(header, SIZE) is None


@pytest.mark.parametrize(
    "header",
    ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=-00", f"bytes={ENORMOUS}-", "bytes=2000-,-0,5000-6000"],
)
def test_nothing_of_it_exists(header: str) -> None:
    """416."""
    with pytest.raises(UnsatisfiableError):
        asked_for(header, SIZE)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-5"])
def test_of_an_empty_file_nothing_exists(header: str) -> None:
    """No `Content-Range` could say which bytes these are."""
    with pytest.raises(UnsatisfiableError):
        asked_for(header, 0)


spaces = st.sampled_from(["", " ", "\t", "  "])
numbers = st.integers(0, 60) | st.integers(0, 10**25)
ranges = st.tuples(numbers, numbers | st.none()) | st.tuples(st.none(), numbers)


@given(st.integers(0, 50), st.lists(ranges, min_size=1, max_size=6), st.data())
def test_agrees_with_counting(size: int, asked: list[tuple[int | None, int | None]], data: st.DataObject) -> None:
    """Every header of the grammar is understood as a model does that knows each byte by its place."""
    wanted: set[int] = set()
    invalid = False
    parts = []
    for first, last in asked:
        if first is None:
            assert last is not None
            wanted |= {place for place in range(size) if place >= size - last}
            parts.append(f"-{last}")
        else:
            invalid |= last is not None and last < first
            wanted |= {place for place in range(size) if place >= first and (last is None or place <= last)}
            parts.append(f"{first}-{'' if last is None else last}")
    header = "bytes=" + ",".join(data.draw(spaces) + part + data.draw(spaces) for part in parts)
    if invalid:
        assert asked_for(header, size) is None
    elif not wanted:
        with pytest.raises(UnsatisfiableError):
            asked_for(header, size)
    elif len(wanted) == max(wanted) - min(wanted) + 1:
        assert asked_for(header, size) == Span(min(wanted), max(wanted) + 1)
    else:
        assert asked_for(header, size) is None


@given(st.text() | st.text("bytes=-,0123456789 \t").map("bytes=".__add__), st.integers(0, 2**63))
def test_no_header_does_harm(header: str, size: int) -> None:
    """Whatever stands there: a piece of the file, the whole of it, or 416."""
    try:
        span = asked_for(header, size)
    except UnsatisfiableError:
        return
    assert span is None or 0 <= span.start < span.stop <= size
