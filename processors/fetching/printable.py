"""Text of others as text that can be kept and shown: bounded, without what would steer a terminal or a page."""

from __future__ import annotations

import re
from typing import Any

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]+")
_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]+")
_TURNED = re.compile(r"[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
"""What makes the text around it run the other way."""


def line(text: Any, longest: int) -> str:
    """One line of at most `longest` characters; empty for what is no text."""
    if not isinstance(text, (str, int, float)):
        return ""
    cut = str(text)[: longest * 4]
    plain = _CONTROL.sub(" ", _TURNED.sub("", _ANSI.sub("", cut)))
    return " ".join(plain.split())[:longest].strip()


def lines(text: Any, longest: int) -> str:
    """The same with its line ends."""
    if not isinstance(text, str):
        return ""
    cut = text[: longest * 2].replace("\r\n", "\n").replace("\r", "\n")
    return _BUT_LINES.sub(" ", _TURNED.sub("", _ANSI.sub("", cut)))[:longest].strip()


def web_url(text: Any, longest: int = 2000) -> str | None:
    """An address of the web; None for whatever else."""
    if not isinstance(text, str) or len(text) > longest or not re.match(r"https?://[^\s/]", text, re.IGNORECASE):
        return None
    return None if _CONTROL.search(text) else text


def number(value: Any) -> float | None:
    """A number that is one, and not below nought."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**63:
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """The same, whole."""
    found = number(value)
    return None if found is None else int(found)
