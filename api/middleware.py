"""What surrounds every request: its id, its line in the log, and errors in one shape."""

from __future__ import annotations

import random
import re
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from api.draining import DRAINING
from api.formats import refusal
from api.multipart import BrokenOffError
from streams.errors import DependencyDownError, LogUnavailableError, NotFoundError, RejectedError, SpoolhouseError

_log = structlog.get_logger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)

GONE = 499
"""What the log shows for a request whose client went away; no one is left to read it."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id (the caller's own `X-Request-ID` where it is sane) and log how it went."""
    given = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = request_id = given if _SANE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    began = time.monotonic()
    status = GONE
    draining = request.app[DRAINING]
    with structlog.contextvars.bound_contextvars(request_id=request_id), draining.request():
        try:
            response = await handler(request)
            status = response.status
            if draining.stopping and not response.prepared:
                response.force_close()
            return response
        finally:
            quiet = request.path in {"/healthz", "/readyz", "/metrics"} and status != 500
            (_log.debug if quiet else _log.info)(
                "request",
                method=request.method,
                path=request.path,
                status=status,
                seconds=round(time.monotonic() - began, 4),
                remote=request.remote,
            )


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as `{"success": false, "error": …}`, never with our insides."""
    try:
        return await handler(request)
    except RejectedError as error:
        return refusal(error.status, str(error))
    except NotFoundError as error:
        return refusal(404, str(error))
    except (LogUnavailableError, DependencyDownError) as error:
        _log.warning("request could not be answered", error=str(error))
        answer = refusal(503, str(error))
        answer.headers["Retry-After"] = "5"
        return answer
    except web.HTTPException as error:
        return _plain(request, error)
    except (BrokenOffError, ConnectionError):
        return refusal(GONE, "The client went away before the answer.")
    except SpoolhouseError as error:
        _log.error("request failed", error=str(error), exc_info=True)
        return refusal(500, str(error), request_id=request[REQUEST_ID])
    except Exception:  # noqa: BLE001 - the outermost place: everything gets an answer
        _log.exception("request failed unexpectedly")
        return refusal(
            500,
            f"Something went wrong here. The log says more under request id {request[REQUEST_ID]}.",
            request_id=request[REQUEST_ID],
        )


def _plain(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Answers of aiohttp itself (unknown route, wrong method, body too large) in our shape."""
    if error.status < 400:
        raise error
    words = {
        404: f"There is nothing at {request.path}.",
        405: f"{request.method} is not possible at {request.path}.",
        413: "That is too large.",
    }
    answer = refusal(error.status, words.get(error.status, error.reason))
    if allow := error.headers.get("Allow"):
        answer.headers["Allow"] = allow
    return answer
