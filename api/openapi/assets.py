"""The pages that show the document: Swagger UI and ReDoc, their files from a package, nothing from elsewhere.

`aiohttp-swagger3` carries both. None of its code is imported: only its files are read.
"""

from __future__ import annotations

import importlib.util
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from streams.errors import NotFoundError

PACKAGE = "aiohttp_swagger3"

_OURS = files("api") / "static"

TYPES = {".js": "text/javascript", ".css": "text/css"}

_THEIRS = {
    "swagger-ui.css": "swagger_ui/swagger-ui.css",
    "swagger-ui-bundle.js": "swagger_ui/swagger-ui-bundle.js",
    "redoc.standalone.js": "redoc_ui/redoc.standalone.js",
}
_NAMES = (*_THEIRS, "docs.js", "docs.css")

_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NO_LOGO = b"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
"""ReDoc would fetch a picture from its makers' server for each reader: they get an empty one instead."""

DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Of the page with Swagger UI: its icons are `data:` pictures, all else is as strict as the web page's."""

REDOC_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the page with ReDoc, which writes its style sheets at run time and searches in a worker made from a blob."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Spoolhouse API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{assets}/docs.css">{more}
</head>
<body>
<div id="{kind}" data-document="{document}"></div>
<script src="{assets}/{script}"></script>
<script src="{assets}/docs.js"></script>
</body>
</html>
"""


def swagger_page(assets: str, document: str) -> str:
    """The page with Swagger UI; `assets` and `document` are addresses, relative to it or not."""
    more = f'\n<link rel="stylesheet" href="{assets}/swagger-ui.css">'
    return _PAGE.format(kind="swagger", assets=assets, document=document, more=more, script="swagger-ui-bundle.js")


def redoc_page(assets: str, document: str) -> str:
    """The page with ReDoc."""
    return _PAGE.format(kind="redoc", assets=assets, document=document, more="", script="redoc.standalone.js")


def names() -> tuple[str, ...]:
    """Every file that the pages need."""
    return _NAMES


@lru_cache(maxsize=len(_NAMES))
def asset(name: str) -> bytes:
    """A file's content. Raises NotFoundError."""
    if name in _THEIRS:
        return (_package() / _THEIRS[name]).read_bytes().replace(_LOGO, _NO_LOGO)
    if name in _NAMES:
        return (_OURS / name).read_bytes()
    raise NotFoundError(f"There is no file {name!r} among those of the documentation.")


@cache
def _package() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NotFoundError(f"The files of Swagger UI and ReDoc are missing: pip install {PACKAGE.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])
