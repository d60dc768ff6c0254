"""Who may call the API from where: host names, CORS, and the headers that tell browsers so."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from api.formats import refusal
from api.middleware import REQUEST_ID
from streams.errors import RejectedError
from streams.settings import Settings

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: nothing from elsewhere, nothing inline."""

EXPOSED = "X-Request-ID, Retry-After, Accept-Ranges, Content-Range, Content-Length, ETag"
"""Headers that a page of another origin may read: players need them to seek."""

WISHES = frozenset({"video", "videos", "subscription", "subscriptions"})
"""First parts of the paths to which wishes are posted."""

METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"


def check_host(settings: Settings) -> Middleware:
    """Refuse strange Host headers, where the API is on loopback or its names are set.

    A web page elsewhere can point a name of its own at 127.0.0.1 and so talk to us as if it were
    ours (DNS rebinding); its name is then in the Host header.
    """
    names = {name.lower() for name in settings.allowed_hosts}
    open_to_all = "*" in names or not (names or is_loopback(settings.host))

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = _name_in(request.headers.get("Host", ""))
        if open_to_all or not name or name == "localhost" or name in names or _is_address(name):
            return await handler(request)
        return refusal(
            403, f"This Spoolhouse does not go by the name {name!r}: add it to SPOOLHOUSE_ALLOWED_HOSTS if it should."
        )

    return guard


def check_origin(request: web.Request, allowed: Collection[str]) -> None:
    """Refuse a WebSocket that a page from elsewhere opens: browsers let any page do so, and send our cookies along.

    Programs send no Origin. Raises RejectedError (403).
    """
    origin = request.headers.get("Origin", "")
    if "*" in allowed or origin.rstrip("/").lower() in {one.rstrip("/").lower() for one in allowed}:
        return
    if not is_from_elsewhere(request):
        return
    raise RejectedError(
        403, f"Pages of {origin[:200]!r} may not open WebSockets here: add it to SPOOLHOUSE_WS_ORIGINS if they should."
    )


def is_from_elsewhere(request: web.Request) -> bool:
    """Whether a page of another origin sent this. Programs send no Origin."""
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    scheme, _, place = origin.lower().partition("://")
    # What stands in front of us may speak TLS: only the places are compared.
    return not place or _place(place, scheme) != _place(request.headers.get("Host", "").lower(), scheme)


def check_wishes(settings: Settings) -> Middleware:
    """Refuse pages of elsewhere that queue, change or delete, unless SPOOLHOUSE_CORS_ORIGINS was set to let them.

    That any page may read and upload is what players and forms rely on; that any page which somebody happens to
    look at may delete films is not.
    """
    named = settings.cors_origins if "cors_origins" in settings.model_fields_set else ()
    allowed = {one.rstrip("/").lower() for one in named}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_wish(request) or "*" in allowed or not is_from_elsewhere(request):
            return await handler(request)
        origin = request.headers["Origin"]
        if origin.rstrip("/").lower() in allowed:
            return await handler(request)
        return refusal(
            403, f"Pages of {origin[:200]!r} may change nothing here: add it to SPOOLHOUSE_CORS_ORIGINS if they should."
        )

    return guard


def _is_wish(request: web.Request) -> bool:
    first = request.path.strip("/").partition("/")[0].lower()
    return request.method in {"PATCH", "DELETE"} or (request.method == "POST" and first in WISHES)


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a browser that asks whether it may (CORS preflight) for every route that exists."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    missing = request.match_info.http_exception
    if not asks or (missing is not None and missing.status == 404):
        return await handler(request)
    headers = {"Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": "600"}
    if wanted := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = wanted
    return web.Response(status=204, headers=headers)


def add_headers(settings: Settings) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """What every answer carries, streamed ones too: request id, CORS, nosniff."""
    origins = set(settings.cors_origins)

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["X-Request-ID"] = request.get(REQUEST_ID, "-")
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Referrer-Policy", "same-origin")
        if "*" in origins:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Origin")))
            origin = request.headers.get("Origin")
            if origin not in origins:
                return
            headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED

    return add


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _place(host: str, scheme: str) -> str:
    """Name and port, without the port that goes without saying."""
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


def _name_in(host: str) -> str:
    """The name in a Host header, without port, brackets and final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower().rstrip(".") if ":" in host else host.lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
