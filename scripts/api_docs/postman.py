"""docs/Video_Processing_API.postman_collection.json: the document as a collection for Postman (v2.1)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

VARIABLES = {"baseUrl": "http://localhost:8000", "file_id": "", "client_id": "test_client"}
"""Those of the collection. `file_id` is what the last upload was given."""

STANDS_FOR = {"id": "file_id", "file_id": "file_id", "client_id": "client_id"}
"""Variable part of a path → variable of the collection."""

ABOUT = """\
Made from the API's own description (`/openapi.json`).

Upload a video first (choose the file in the request's body): its `file_id` is kept as a collection variable, and
all other requests use it. `baseUrl` is where your Spoolhouse listens.

A collection cannot hold WebSocket requests. For live updates make one by hand:
`ws://localhost:8000/ws/test_client`, and upload with `client_id` = `test_client`.
"""

KEEP_FILE_ID = """\
if (pm.response.code < 300) {
    const answer = pm.response.json();
    const fileId = answer.file_id || answer.id;
    pm.test("the upload was given an id", () => pm.expect(fileId).to.be.a("string"));
    pm.collectionVariables.set("file_id", fileId);
}
"""


def collection(told: Mapping[str, Any]) -> dict[str, Any]:
    """The collection."""
    folders = []
    for tag in told["tags"]:
        items = [
            _item(told, path, method, one)
            for path, methods in told["paths"].items()
            for method, one in methods.items()
            if tag["name"] in one["tags"] and "101" not in one["responses"]
        ]
        # What makes a video comes first, what needs one after it.
        items.sort(key=lambda item: "event" not in item)
        folders.append({"name": tag["name"], "description": tag["description"], "item": items})
    folders.sort(key=lambda folder: not any("event" in item for item in folder["item"]))
    return {
        "info": {
            "_postman_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "spoolhouse/postman")),
            "name": "Video Processing API",
            "description": ABOUT,
            "schema": SCHEMA,
        },
        "variable": [{"key": key, "value": value, "type": "string"} for key, value in VARIABLES.items()],
        "item": folders,
    }


def as_text(made: Mapping[str, Any]) -> str:
    """As it is stored."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _item(told: Mapping[str, Any], path: str, method: str, one: Mapping[str, Any]) -> dict[str, Any]:
    body = _body(told, one)
    item: dict[str, Any] = {
        "name": one["summary"],
        "request": {
            "method": method.upper(),
            "header": [],
            "url": _url(path, one),
            "description": "\n\n".join(filter(None, (one["summary"] + ".", one.get("description")))),
            **({"body": body} if body else {}),
        },
        "response": [],
    }
    if body and body["mode"] == "formdata":
        script = {"type": "text/javascript", "exec": KEEP_FILE_ID.splitlines()}
        item["event"] = [{"listen": "test", "script": script}]
    return item


def _url(path: str, one: Mapping[str, Any]) -> dict[str, Any]:
    own: list[dict[str, Any]] = []

    def stand_in(found: re.Match[str]) -> str:
        name = found[1]
        if name in STANDS_FOR:
            return "{{" + STANDS_FOR[name] + "}}"
        about = next(parameter["description"] for parameter in one["parameters"] if parameter["name"] == name)
        own.append({"key": name, "value": "", "description": about})
        return f":{name}"

    filled = re.sub(r"\{(\w+)\}", stand_in, path)
    query = [
        {"key": parameter["name"], "value": "", "description": parameter["description"], "disabled": True}
        for parameter in one.get("parameters", ())
        if parameter["in"] == "query"
    ]
    url: dict[str, Any] = {
        "raw": "{{baseUrl}}" + filled,
        "host": ["{{baseUrl}}"],
        "path": filled.removeprefix("/").split("/"),
    }
    return url | ({"query": query} if query else {}) | ({"variable": own} if own else {})


def _body(told: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    for media, content in one.get("requestBody", {}).get("content", {}).items():
        if media != "multipart/form-data":
            raw = json.dumps(content.get("example", {}), indent=2)
            return {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}
        schema = told["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        return {"mode": "formdata", "formdata": [_field(name, field) for name, field in schema["properties"].items()]}
    return {}


def _field(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    about = {"key": name, "description": field.get("description", "")}
    if field.get("format") == "binary":
        return about | {"type": "file", "src": []}
    if name in STANDS_FOR:
        return about | {"type": "text", "value": "{{" + STANDS_FOR[name] + "}}"}
    return about | {"type": "text", "value": "", "disabled": True}
