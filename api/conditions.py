"""What a request makes its answer depend on (RFC 9110, section 13): `If-Match` and its kin."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from aiohttp import web
from aiohttp.helpers import ETag


def refused_by(request: web.Request, tag: str, modified: datetime | None = None) -> int | None:
    """412 or 304, where the request does not want what has this entity tag and date; None: it wants it."""
    if request.if_match is not None:
        if not _among(tag, tuple(one for one in request.if_match if not one.is_weak)):
            return 412
    elif modified is not None and request.if_unmodified_since is not None and modified > request.if_unmodified_since:
        return 412
    if request.if_none_match is not None:
        return 304 if _among(tag, request.if_none_match) else None
    if modified is not None and request.if_modified_since is not None and modified <= request.if_modified_since:
        return 304
    return None


def range_wanted(request: web.Request, tag: str, modified: datetime) -> str | None:
    """The `Range` header where it counts: once, for a GET, and of the content that `If-Range` means."""
    ranges = request.headers.getall("Range", [])
    if request.method != "GET" or len(ranges) != 1:
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != f'"{tag}"' and _date(condition) != modified:
        return None
    return ranges[0]


def dated(at: datetime) -> datetime:
    """A time as HTTP knows it: whole seconds, and not in the future."""
    return min(at.astimezone(UTC), datetime.now(UTC)).replace(microsecond=0)


def http_date(at: datetime) -> str:
    """`Tue, 12 Nov 2024 14:30:52 GMT`."""
    return format_datetime(at, usegmt=True)


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None


def _among(tag: str, tags: tuple[ETag, ...]) -> bool:
    return any(one.value in ("*", tag) for one in tags)
