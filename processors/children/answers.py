"""What children say, in our own words. A child may have gone mad: nothing is taken as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from cattrs.errors import BaseValidationError
from cattrs.preconf.orjson import make_converter

T = TypeVar("T")

_converter = make_converter()


def understood(message: Mapping[str, Any], words: Mapping[str, type[T]]) -> T | None:
    """The one thing that a message says, as `words` name it; None where it is nonsense."""
    for word, kind in words.items():
        if word in message:
            try:
                return _converter.structure(message[word], kind)
            except (BaseValidationError, ValueError, TypeError, KeyError):
                return None
    return None
