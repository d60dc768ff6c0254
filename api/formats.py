"""How numbers and times are shown: MB and GB are 2^20 and 2^30, dates are local time."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from aiohttp import web

MB = 2**20
GB = 2**30


def megabytes(size: int) -> float:
    """Bytes as MB, two decimals."""
    return round(size / MB, 2)


def gigabytes(size: int) -> float:
    """Bytes as GB, two decimals."""
    return round(size / GB, 2)


def local(at: datetime | None) -> str | None:
    """`2024-11-12T14:30:52`, local time. A time without a zone is UTC, as the catalogue holds it."""
    if at is None:
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return aware.astimezone().replace(tzinfo=None).isoformat(timespec="seconds")


def json_bytes(value: object) -> bytes:
    """JSON, compact."""
    return orjson.dumps(value)


def json_answer(value: object, *, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=json_bytes(value), status=status, content_type="application/json", charset="utf-8")


def refusal(status: int, error: str, **more: object) -> web.Response:
    """An error in the one shape that all errors have."""
    return json_answer({"success": False, "error": error, **more}, status=status)
