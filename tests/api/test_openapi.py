"""The document that the API gives of itself: valid, whole, and nothing in it that is not there."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.openapi.document import OTHER_WORDS, UndescribedError, document
from api.routes import add_routes
from tests.api.running import Api


def all_routes() -> web.UrlDispatcher:
    """The routes of the application."""
    app = web.Application()
    add_routes(app)
    return app.router


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document."""
    return document(all_routes())


def operations(told: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    return [(path, method, one) for path, methods in told["paths"].items() for method, one in methods.items()]


def test_it_is_valid_openapi(told: dict[str, Any]) -> None:
    """By the schema of OpenAPI 3.1, references and examples' places included."""
    assert told["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(told).iter_errors()] == []


def test_every_route_is_in_it_and_nothing_else(told: dict[str, Any]) -> None:
    """HEAD, which every GET answers, is mentioned only where that is worth it; other words for a path are not."""
    there = {
        (route.resource.canonical, route.method.lower())
        for route in all_routes().routes()
        if route.resource is not None
    }
    in_it = {(path, method) for path, method, _ in operations(told)}
    assert in_it <= there
    assert {one for one in there - in_it if one[1] != "head" and not one[0].startswith(f"/{{{OTHER_WORDS}}}")} == set()


def test_a_handler_without_a_description_is_found() -> None:
    """So whoever adds a route says what it does."""

    async def mystery(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    add_routes(app)
    app.router.add_get("/mystery", mystery)
    with pytest.raises(UndescribedError, match=r"GET /mystery .*test_openapi\.mystery"):
        document(app.router)


def test_every_operation_says_what_it_is_for(told: dict[str, Any]) -> None:
    """A summary that fits a line, an id of its own, words for every parameter, a status of success."""
    ids = [one["operationId"] for _, _, one in operations(told)]
    assert len(ids) == len(set(ids))
    for path, method, one in operations(told):
        assert 3 <= len(one["summary"]) <= 110, (path, one["summary"])
        assert all(parameter["description"] for parameter in one.get("parameters", [])), (path, method)
        assert any(status < "400" for status in one["responses"]), (path, method)


def test_examples_are_of_the_shape_that_they_show(told: dict[str, Any]) -> None:
    """Each against the schema beside it."""
    from jsonschema import Draft202012Validator

    seen = 0
    for path, _, one in operations(told):
        for answer in [
            *one["responses"].values(),
            one.get("requestBody", {}),
            *told["components"]["responses"].values(),
        ]:
            for content in answer.get("content", {}).values():
                if "example" in content:
                    schema = {**content["schema"], "components": told["components"]}
                    faults = [error.message for error in Draft202012Validator(schema).iter_errors(content["example"])]
                    assert faults == [], path
                    seen += 1
    assert seen > 5


async def test_it_is_served(api: Api, told: dict[str, Any]) -> None:
    """At /openapi.json, with an ETag."""
    answer = await api.get("/openapi.json")
    assert answer.status == 200
    assert answer.body == told
    assert (await api.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})).status == 304


async def test_what_is_not_there_is_refused(api: Api) -> None:
    """Among the files of the documentation: those pages need, and no others."""
    for path in ("/docs/nothing.js", "/docs/..%2f__init__.py", "/docs/probed.json"):
        assert (await api.get(path)).status == 404
