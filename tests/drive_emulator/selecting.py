"""Which part of an answer is wanted (`fields`), and which files are looked for (`q`)."""

from __future__ import annotations

import re
from typing import Any

from tests.drive_emulator.state import DriveError, State


def selected(told: Any, fields: str | None) -> Any:
    """The part of an answer that `fields` names: `id,files(id,name),user/emailAddress`, `*` for all."""
    if not fields or fields == "*":
        return told
    wanted, rest = _fields(fields, 0)
    if rest != len(fields):
        raise DriveError(400, "invalidParameter", f"Invalid field selection {fields}", location="fields")
    return _pick(told, wanted)


def _fields(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(text):
        name = re.compile(r"\s*([\w*]+)\s*").match(text, at)
        if name is None:
            raise DriveError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")
        at, below = name.end(), None
        if text[at : at + 1] == "/":
            one = re.compile(r"[\w*/]+").match(text, at + 1)
            below, _ = _fields(one[0] if one else "", 0)
            at = one.end() if one else at + 1
        elif text[at : at + 1] == "(":
            below, at = _fields(text, at + 1)
            if text[at : at + 1] != ")":
                raise DriveError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")
            at += 1
        found[name[1]] = (found.get(name[1]) or {}) | below if below else None
        if text[at : at + 1] != ",":
            break
        at += 1
    return found, at


def _pick(told: Any, wanted: dict[str, Any]) -> Any:
    if isinstance(told, list):
        return [_pick(one, wanted) for one in told]
    if not isinstance(told, dict) or "*" in wanted:
        return told
    return {key: _pick(value, wanted[key]) if wanted[key] else value for key, value in told.items() if key in wanted}


# ---------------------------------------------------------------- searches: `q`

TERM = re.compile(
    r"\s*(?:"
    r"'(?P<parent>(?:[^'\\]|\\.)*)'\s+in\s+parents"
    r"|trashed\s*(?P<unlike>!?)=\s*(?P<trashed>true|false)"
    r"|(?P<kind>appProperties|properties)\s+has\s*\{\s*key\s*=\s*'(?P<key>(?:[^'\\]|\\.)*)'"
    r"\s+and\s+value\s*=\s*'(?P<value>(?:[^'\\]|\\.)*)'\s*\}"
    r"|(?P<field>name|mimeType)\s*(?P<differs>!?)=\s*'(?P<text>(?:[^'\\]|\\.)*)'"
    r")\s*(?P<more>and\b|$)"
)


def searched(state: State, q: str) -> list[dict[str, Any]]:
    """The files that a search finds: terms joined by `and`. DriveError 400 for what is not understood."""
    terms, at = [], 0
    while at < len(q):
        term = TERM.match(q, at)
        if term is None:
            raise DriveError(400, "invalid", f"Invalid Value: {q[at:]}", location="q")
        terms.append({key: _plain(value) for key, value in term.groupdict().items() if value is not None})
        at = term.end()
        if (term["more"] == "and") == (at == len(q)):
            raise DriveError(400, "invalid", "Invalid Value", location="q")
    first = next((term for term in terms if term.get("kind") == "appProperties"), None)
    with state.lock:
        found = state.with_property(first["key"], first["value"]) if first else list(state.files.values())
    for term in terms:
        if "parent" in term and term["parent"] != "root":
            state.get(term["parent"])
    return [record for record in found if all(_fits(record, term) for term in terms)]


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _fits(record: dict[str, Any], term: dict[str, str]) -> bool:
    if "parent" in term:
        return term["parent"] in record["parents"]
    if "trashed" in term:
        return (record["trashed"] == (term["trashed"] == "true")) != (term["unlike"] == "!")
    if "kind" in term:
        return bool(record[term["kind"]].get(term["key"]) == term["value"])
    return (record[term["field"]] == term["text"]) != (term["differs"] == "!")
