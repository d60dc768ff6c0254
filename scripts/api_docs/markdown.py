"""docs/API_DOCUMENTATION.md: the document as a text to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

BASE = "http://localhost:8000"

HEAD = """\
# The API

Made by `scripts/generate_api_docs` from what stands at the handlers: change it there. The same as pages, where every
route can be tried: `/docs` and `/redoc` of a running Spoolhouse; for programs: `/openapi.json`; for Postman:
[Video_Processing_API.postman_collection.json](Video_Processing_API.postman_collection.json), which keeps the `file_id`
of an upload for the requests that follow. What the examples say of a video's content was read from a real one.
"""

METHODS = ("get", "head", "post", "put", "patch", "delete")


def markdown(told: Mapping[str, Any]) -> str:
    """The whole text."""
    return "\n\n".join(part.rstrip() for part in _parts(told)) + "\n"


def _parts(told: Mapping[str, Any]) -> Iterator[str]:
    yield HEAD
    yield told["info"]["description"]
    found = [(path, method, one) for path, methods in told["paths"].items() for method, one in methods.items()]
    yield "## Routes"
    yield _table(
        ("route", "what it is for"),
        [(f"[`{method.upper()} {path}`](#{one['operationId']})", one["summary"]) for path, method, one in found],
    )
    for tag in told["tags"]:
        yield f"## {tag['name']}"
        yield tag["description"]
        for path, method, one in found:
            if tag["name"] in one["tags"]:
                yield from _operation(told, path, method, one)
    yield "## Errors"
    yield "All of one shape; any route may answer with 403 and 500."
    refusals = told["components"]["responses"]
    statuses = _statuses(found)
    yield _table(
        ("status", "what it means"),
        sorted((str(statuses[name]), answer["description"]) for name, answer in refusals.items() if name in statuses),
    )
    yield _example({"success": False, "error": "There is no video '00000000-0000-4000-8000-000000000000'."})
    yield "## Shapes"
    for name, schema in told["components"]["schemas"].items():
        yield f'<a id="shape-{name}"></a>\n\n### {name}'
        if "description" in schema:
            yield schema["description"]
        yield _fields(schema)


def _operation(told: Mapping[str, Any], path: str, method: str, one: Mapping[str, Any]) -> Iterator[str]:
    yield f'<a id="{one["operationId"]}"></a>\n\n### `{method.upper()} {path}`'
    yield f"{one['summary']}."
    if "description" in one:
        yield one["description"]
    if "parameters" in one:
        yield _table(
            ("parameter", "in", "type", "what it is"),
            [
                (f"`{parameter['name']}`", parameter["in"], _kind(parameter["schema"]), parameter["description"])
                for parameter in one["parameters"]
            ],
        )
    for media, content in one.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{media}`: {one['requestBody']['description']}"
        # Of several forms the first is the plain one; the description says what the others are.
        schema = content["schema"]
        yield _fields(_resolved(told, schema["anyOf"][0] if "anyOf" in schema else schema))
    yield f"```\n{_curl(told, path, method, one)}\n```"
    yield _table(
        ("status", "answer", "what it means"),
        [
            (status, ", ".join(_contents(told, answer)), _resolved(told, answer)["description"])
            for status, answer in sorted(one["responses"].items())
        ],
    )
    for status, answer in sorted(one["responses"].items()):
        for content in answer.get("content", {}).values():
            if "example" in content:
                yield f"{status}:"
                yield _example(content["example"])


def _curl(told: Mapping[str, Any], path: str, method: str, one: Mapping[str, Any]) -> str:
    """A line that asks for it."""
    how = {"get": "", "head": "--head "}.get(method, f"-X {method.upper()} ")
    if "101" in one["responses"]:
        return f"ws{BASE.removeprefix('http')}{path}"
    for media, content in one.get("requestBody", {}).get("content", {}).items():
        if media == "multipart/form-data":
            fields = _resolved(told, content["schema"])["properties"]
            how = "".join(
                f"-F {name}=@clip.mp4 " if field.get("format") == "binary" else f"-F {name}=… "
                for name, field in fields.items()
            )
        else:
            example = json.dumps(content.get("example", {}))
            how += f"-H 'Content-Type: {media}' -d '{example}' "
    return f"curl {how}{BASE}{path}"


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    return _table(
        ("field", "type", "what it is"),
        [
            (f"`{name}`" + ("" if name in required else " (optional)"), _kind(field), field.get("description", ""))
            for name, field in schema.get("properties", {}).items()
        ],
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#shape-{name})"
    if "enum" in schema or "const" in schema:
        words = " \\| ".join(f"`{json.dumps(one).strip(chr(34))}`" for one in schema.get("enum", [schema.get("const")]))
        return words + (f" (`{schema['default']}`)" if "default" in schema else "")
    if schema.get("format") == "binary":
        return "file"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("type") == "string" and "anyOf" in schema:
        return " or ".join(one["format"] for one in schema["anyOf"])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    bounds = f" {schema['minimum']}–{schema['maximum']}" if {"minimum", "maximum"} <= schema.keys() else ""
    default = f" ({schema['default']})" if "default" in schema else ""
    return f"{schema.get('type', 'anything')}{bounds}{default}"


def _contents(told: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    for media, content in _resolved(told, answer).get("content", {}).items():
        schema = content.get("schema", {})
        yield _kind(schema) if "$ref" in schema or "$ref" in schema.get("items", {}) else f"`{media}`"


def _statuses(found: Iterable[tuple[str, str, Mapping[str, Any]]]) -> dict[str, str]:
    """Status by the name of its refusal."""
    return {
        answer["$ref"].rpartition("/")[2]: status
        for _, _, one in found
        for status, answer in one["responses"].items()
        if "$ref" in answer
    }


def _resolved(told: Mapping[str, Any], one: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in one:
        return one
    found: Any = told
    for part in one["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(" ".join(str(cell).split()) for cell in line) + " |" for line in lines)


def _example(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"
