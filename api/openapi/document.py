"""Puts the OpenAPI 3.1 document together: the routes of the application, as their handlers are described."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, get_origin

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from api.openapi.describing import JSON, Answer, Body, Operation, operation_of
from api.shapes import Refusal
from streams.errors import SpoolhouseError

ABOUT = """\
Takes in video from anywhere, never loses it, and can say what happened to every file.

Every error is JSON of one shape (`Refusal`), whatever went wrong. Every answer carries `X-Request-ID`: the
caller's own where it sent one, else a new one; the log shows it too. Every `GET` answers `HEAD` as well, and every
route answers the preflight requests of browsers (CORS). Sizes in MB and GB are 2^20 and 2^30 bytes, times are
local to the server, ids are UUIDs. Query parameters that a route does not know are refused, not ignored, where it
has parameters at all.
"""

TAGS = {
    "Uploads": "Videos in, and the lists of the upload service.",
    "Catalogue": "Every video that came in by any door, and all that happened to it.",
    "Media": "What is made of videos: how the work stands, what can be played, what is known.",
    "Downloads": "Videos from URLs: a queue, a list, and how they are made.",
    "Operation": "For those who run it.",
    "Documentation": "This description, for people and for programs.",
    "Page": "The web page.",
}
"""Groups of routes, in their order."""

REFUSALS = {
    400: ("BadRequest", "Something about the request is wrong; `error` names it."),
    403: ("Forbidden", "Asked under a host name, or from a web page, that is not allowed (SPOOLHOUSE_ALLOWED_HOSTS)."),
    404: ("NotFound", "There is no such thing."),
    405: ("MethodNotAllowed", "Another method is meant; `Allow` names it."),
    408: ("Timeout", "The body stopped coming; nothing of it was kept."),
    409: ("Conflict", "Not as things stand; `error` says why, and what to do."),
    413: ("TooLarge", "More than is allowed (SPOOLHOUSE_MAX_UPLOAD); nothing of it was kept."),
    415: ("Unsupported", "Not what this route takes: no such body, or no video."),
    416: ("RangeNotSatisfiable", "The range lies outside the file; `Content-Range` says how large it is."),
    417: ("ExpectationFailed", "Nothing is known of what `Expect` asks for."),
    426: ("UpgradeRequired", "Only WebSockets are talked to here."),
    500: ("Failed", "Something went wrong on the server. Its log says more under `request_id`."),
    502: ("BadGateway", "Something that Spoolhouse relies on failed."),
    503: ("Unavailable", "Something that is needed for this cannot be reached; `Retry-After` seconds later it may."),
    507: ("DiskFull", "There is no room on the disk; nothing was kept."),
}
"""Status → name among the components, and what it means."""

OTHER_WORDS = "spelling"
"""What a path begins with that is another's in other words: `/Video/3`. It has no description of its own."""

ALWAYS = (403, 500)
"""What any route may answer."""


class UndescribedError(SpoolhouseError):
    """A route has no description."""


def document(router: web.UrlDispatcher, *, server: str = "/") -> dict[str, Any]:
    """The document of these routes. Raises UndescribedError naming a handler, or a part of a path, without description."""
    routes = sorted(described(router), key=lambda one: list(TAGS).index(one[2].tag))
    schemas = _Schemas([operation for _, _, operation in routes])
    paths: dict[str, dict[str, Any]] = {}
    used: set[int] = {*ALWAYS}
    names: set[str] = set()
    for path, method, operation in routes:
        used |= {*operation.refuses}
        told = _operation(path, operation, schemas)
        if told["operationId"] in names:  # one handler may stand at several paths
            told["operationId"] += "_" + re.sub(r"\W+", "_", path).strip("_")
        names.add(told["operationId"])
        paths.setdefault(path, {})[method] = told
        if operation.head:
            paths[path]["head"] = _head(told)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spoolhouse",
            "version": version("spoolhouse"),
            "summary": "Self-hosted video intake",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "tags": [
            {"name": name, "description": about}
            for name, about in TAGS.items()
            if any(operation.tag == name for _, _, operation in routes)
        ],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {
                name: _refusal(status, about) for status, (name, about) in REFUSALS.items() if status in used
            },
        },
    }


def described(router: web.UrlDispatcher) -> list[tuple[str, str, Operation]]:
    """Path, method (small) and description of every route, HEAD beside GET left out. Raises UndescribedError."""
    found = []
    for route in router.routes():
        if route.method in {hdrs.METH_HEAD, hdrs.METH_OPTIONS} or route.resource is None:
            continue
        if route.resource.canonical.startswith(f"/{{{OTHER_WORDS}}}"):
            continue
        operation, path = operation_of(route.handler), route.resource.canonical
        if operation is None:
            raise UndescribedError(
                f"{route.method} {path} is not described: put @documented above {_name(route.handler)}"
            )
        if operation.tag not in TAGS:
            raise UndescribedError(f"{_name(route.handler)} has the tag {operation.tag!r}; there are {', '.join(TAGS)}")
        found.append((path, route.method.lower(), operation))
    return found


def _operation(path: str, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        told["description"] = operation.description
    if parameters := [*_path_parameters(path, operation), *_query_parameters(operation), *_headers(operation)]:
        told["parameters"] = parameters
    if operation.body is not None:
        told["requestBody"] = _body(operation.body, schemas)
    answers = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    refusals = {
        str(status): {"$ref": f"#/components/responses/{REFUSALS[status][0]}"}
        for status in sorted({*operation.refuses, *ALWAYS} - {*operation.answers})
    }
    return told | {"responses": answers | refusals}


def _path_parameters(path: str, operation: Operation) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", path):
        if name not in operation.path:
            raise UndescribedError(f"{path}: {operation.name} does not say what {{{name}}} is")
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": operation.path[name],
            "schema": {"type": "string", "minLength": 1},
        }


def _query_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for parameter in operation.query:
        yield {
            "name": parameter.name,
            "in": "query",
            "description": parameter.about,
            "allowEmptyValue": True,  # the same as none at all
            "schema": parameter.schema,
        }


def _headers(operation: Operation) -> Iterable[dict[str, Any]]:
    for name, header in operation.headers.items():
        yield {
            "name": name,
            "in": "header",
            "description": header.about,
            "schema": {"type": "string"},
            "example": header.example,
        }


def _body(body: Body, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schemas.of(body.shape)}
    if body.example is not None:
        content["example"] = body.example
    return {"description": body.about, "required": body.required, "content": {body.media: content}}


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.about}
    if answer.headers:
        told["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers.items()
        }
    if answer.shape is not None:
        content: dict[str, Any] = {"schema": schemas.of(answer.shape)}
        if answer.example is not None:
            content["example"] = answer.example
        told["content"] = {JSON: content}
    elif answer.media:
        told["content"] = {media: {} for media in answer.media}
    return told


def _refusal(status: int, about: str) -> dict[str, Any]:
    example: dict[str, Any] = {"success": False, "error": about}
    if status == 500:
        example["request_id"] = "3f0e1c0a4f6b4d0e9a51c7a0b8e0d2f1"
    told: dict[str, Any] = {"description": about}
    if status == 503:
        told["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    content = {"schema": {"$ref": f"#/components/schemas/{Refusal.__name__}"}, "example": example}
    return told | {"content": {JSON: content}}


def _head(told: Mapping[str, Any]) -> dict[str, Any]:
    """The same without bodies."""
    responses = {
        status: {
            "description": answer["description"],
            **({"headers": answer["headers"]} if "headers" in answer else {}),
        }
        if "$ref" not in answer
        else {"description": "The same error as of GET, without its body."}
        for status, answer in told["responses"].items()
    }
    return {
        **told,
        "operationId": told["operationId"] + "_head",
        "summary": told["summary"] + ": its headers only",
        "responses": responses,
    }


class _Schemas:
    """The JSON Schemas of all shapes that operations mention, as components."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        # In the order in which they are met, each once.
        shapes = {_key(Refusal): (Refusal, "serialization")}
        for operation in operations:
            if operation.body is not None:
                shapes[_key(operation.body.shape)] = (operation.body.shape, "validation")
            for answer in operation.answers.values():
                if answer.shape is not None:
                    shapes.setdefault(_key(answer.shape), (answer.shape, "serialization"))
        for shape, _ in list(shapes.values()):
            for base in getattr(shape, "__orig_bases__", ()):
                if hasattr(base, "__orig_bases__"):
                    shapes.setdefault(_key(base), (base, "serialization"))
        made, rest = TypeAdapter.json_schemas(
            [(key, mode, TypeAdapter(shape)) for key, (shape, mode) in shapes.items()],  # type: ignore[misc]
            ref_template="#/components/schemas/{model}",
            schema_generator=_Plain,
        )
        self._made = {key: schema for (key, _), schema in made.items()}
        self.components: dict[str, Any] = rest.get("$defs", {})
        self._inherit(shape for shape, _ in shapes.values())
        for schema in self.components.values():
            _mark_files(schema)

    def of(self, shape: Any) -> dict[str, Any]:
        """The schema of a shape: mostly a reference to a component."""
        return self._made[_key(shape)]

    def _inherit(self, shapes: Iterable[Any]) -> None:
        """Give fields the words that they have in the shape that they come from."""
        for shape in shapes:
            for base in getattr(shape, "__orig_bases__", ()):
                here = self.components.get(getattr(shape, "__name__", ""), {}).get("properties", {})
                there = self.components.get(getattr(base, "__name__", ""), {}).get("properties", {})
                for name, schema in there.items():
                    if name in here and "description" in schema:
                        here[name].setdefault("description", schema["description"])


class _Plain(GenerateJsonSchema):
    """Without a title for each field that only repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def _mark_files(schema: dict[str, Any]) -> None:
    """Files in forms: `binary` is what tools of OpenAPI 3.0 know, `contentMediaType` what 3.1 says."""
    for field in schema.get("properties", {}).values():
        if field.get("format") == "binary":
            field["contentMediaType"] = "application/octet-stream"


def _key(shape: Any) -> str:
    # `list[A]` and `list[B]` are both called `list`.
    return str(shape if get_origin(shape) else getattr(shape, "__name__", shape))


def _name(handler: Handler) -> str:
    return f"{getattr(handler, '__module__', '?')}.{getattr(handler, '__name__', handler)}"
