"""Which bytes a `Range` header asks for (RFC 9110, section 14).

Several ranges are answered with one: those that overlap or touch are one to begin with, and what
then still lies apart is answered with the whole, which the RFC allows. No player asks for it, and
multipart answers have been a way to make servers work for nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streams.errors import SpoolhouseError

MOST = 16
"""Ranges in one header; more of them are nobody's film."""

_ONE = re.compile(r"([0-9]*)-([0-9]*)")

_BEYOND = 2**63
"""A position that no file has: what has more digits than that is not counted."""


class UnsatisfiableError(SpoolhouseError):
    """None of the bytes that were asked for exist: 416."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Bytes from `start` up to, but without, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many."""
        return self.stop - self.start

    def of(self, size: int) -> str:
        """As `Content-Range` writes it."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def asked_for(header: str | None, size: int) -> Span | None:
    """The bytes of a file of `size` bytes that the header asks for; None: the whole, as without the header.

    So is everything that is not understood: another unit, what breaks the grammar, ranges that lie
    apart. Raises UnsatisfiableError.
    """
    if header is None:
        return None
    unit, equals, listed = header.partition("=")
    if unit.strip(" \t").lower() != "bytes" or not equals:
        return None
    asked = [part.strip(" \t") for part in listed.split(",", MOST + 1)]
    asked = [part for part in asked if part]
    if not asked or len(asked) > MOST:
        return None
    spans = [_span(part, size) for part in asked]
    if any(span is None for span in spans):
        return None
    there = _joined([span for span in spans if span is not None and span.length > 0])
    if not there:
        raise UnsatisfiableError(f"There are {size} bytes, and none of those that `Range: {header[:200]}` asks for.")
    return there[0] if len(there) == 1 else None


def _span(part: str, size: int) -> Span | None:
    """One range, cut to what is there; empty where nothing of it is. None: it is none."""
    found = _ONE.fullmatch(part)
    if found is None or part == "-":
        return None
    first, last = found[1], found[2]
    if not first:
        return Span(max(0, size - _number(last)), size)
    if not last:
        return Span(min(_number(first), size), size)
    if _number(last) < _number(first):
        return None
    return Span(min(_number(first), size), min(_number(last) + 1, size))


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 19 else min(_BEYOND, int(digits.lstrip("0")[:20] or "0"))


def _joined(spans: list[Span]) -> list[Span]:
    """The same bytes in as few spans as there can be, in order."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].stop:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return joined
