"""Bodies in JSON: an object whose fields lie flat, or under `attributes`.

{"url": "https://…"}        {"type": "video", "attributes": {"url": "https://…"}}
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from aiohttp import web

from api.guards import is_from_elsewhere
from streams.errors import RejectedError

MAX_BODY = 64 * 1024
"""Bytes."""

MAX_DEPTH = 32
"""Objects and lists within each other."""


async def fields_of(
    request: web.Request, known: Collection[str], *, kind: str, overlooked: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a request's body, without those that are `overlooked`.

    Raises RejectedError: 400 for what is no such object or names unknown fields, 413, 415.
    """
    told = _parsed(request, await _read(request))
    if not isinstance(told, dict):
        raise RejectedError(400, "The body must be a JSON object.")
    attributes = told.pop("attributes", {})
    if not isinstance(attributes, dict):
        raise RejectedError(400, "`attributes` must be a JSON object.")
    fields = told | attributes
    given = fields.pop("type", kind)
    if not isinstance(given, str) or given.lower() != kind:
        raise RejectedError(400, f"`type` must be {kind!r}, not {str(given)[:50]!r}.")
    for name in set(fields) & set(overlooked) - set(known):
        del fields[name]
    if unknown := sorted(set(fields) - set(known)):
        raise RejectedError(400, f"Unknown {', '.join(unknown)[:200]}. There are: {', '.join(sorted(known))}.")
    if _is_deep(fields):
        raise RejectedError(400, f"More than {MAX_DEPTH} objects or lists lie within each other.")
    return fields


async def _read(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    body = await request.read()
    if len(body) > MAX_BODY:
        raise _too_large()
    return body


def _parsed(request: web.Request, body: bytes) -> Any:
    """JSON is JSON whatever it calls itself (`curl -d` calls everything a form), unless a page of elsewhere sends it.

    Browsers let any page send what does not call itself JSON, without asking us first.
    """
    is_json = request.content_type == "application/json" or request.content_type.endswith("+json")
    wrong = RejectedError(415, "Send JSON, and say so: `Content-Type: application/json`.")
    if not is_json and is_from_elsewhere(request):
        raise wrong
    try:
        return orjson.loads(body)
    except ValueError as error:
        if not body.strip():
            raise RejectedError(400, "The body is empty: it must be a JSON object.") from None
        raise RejectedError(400, f"The body is no JSON: {error}.") if is_json else wrong from None


def _too_large() -> RejectedError:
    return RejectedError(413, f"The body has more than {MAX_BODY} bytes.")


def _is_deep(value: Any) -> bool:
    """Whether it has more than so many objects and lists within each other."""
    layer = [value]
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)]
        layer = [one for values in inner for one in values]
    return any(isinstance(one, dict | list) for one in layer)
