"""How a file is served: by what its URL's query says, or by what a test has set for its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Manners:
    """Each may stand in a URL's query (`/film.mp4?size=1000000&speed=50000`) or in `Site.manners`."""

    size: int | None = None
    """Bytes, padded."""
    seed: int = 0
    """Of the padding, and of the ETag."""
    speed: int | None = None
    """Bytes a second."""
    delay: float = 0.0
    """Seconds until the answer begins."""
    stop: int | None = None
    """Bytes of an answer after which nothing more comes, and the connection stays."""
    ranges: bool = True
    etag: bool = True
    length: bool = True
    """Whether it says how long it is."""
    claims: int | None = None
    """What it says how long it is, where that is not true."""
    cut: int | None = None
    """Bytes of an answer after which the connection breaks."""
    status: int | None = None
    """Instead of it."""
    retry_after: str | None = None
    times: int | None = None
    """Of requests that `cut`, `stop` and `status` hold for, then all is well; None: always."""
    endless: bool = False

    def said(self, query: Mapping[str, str]) -> Manners:
        """This, but for what a query says."""
        return replace(self, **{name: _value(name, text) for name, text in query.items() if name in _KINDS})

    def mended(self) -> Manners:
        """This, without its fault."""
        return replace(self, cut=None, stop=None, status=None)


_KINDS = {one.name: str(one.type) for one in fields(Manners)}


def _value(name: str, text: str) -> Any:
    kind = _KINDS[name]
    if kind == "bool":
        return text not in {"0", "no", "false"}
    if kind.startswith("float"):
        return float(text)
    return text if kind.startswith("str") else int(text)
