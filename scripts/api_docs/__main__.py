"""`scripts/generate_api_docs [FOLDER]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from scripts.api_docs import sample
from scripts.api_docs.markdown import BASE, markdown
from scripts.api_docs.postman import as_text, collection

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = DOCS / "API_DOCUMENTATION.md"
POSTMAN = DOCS / "Video_Processing_API.postman_collection.json"


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(prog="scripts/generate_api_docs", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS / "api", help="where the pages go (docs/api)")
    folder: Path = parser.parse_args().folder
    probed = sample.probe()
    if not sample.TARGET.exists() or not sample.same(probed, json.loads(sample.TARGET.read_bytes())):
        sample.TARGET.write_bytes(sample.as_bytes(probed))
        print(f"wrote {sample.TARGET}")
    # Only now: what is imported here reads that file.
    told = whole_document()
    for path, text in texts(told).items():
        path.write_text(text, "utf-8")
        print(f"wrote {path}")
    write_pages(told, folder)
    print(f"wrote {folder}: look at it with  python3 -m http.server --directory {folder}")


def whole_document() -> dict[str, Any]:
    """The OpenAPI document of the application's routes."""
    from api.openapi.document import document
    from api.routes import add_routes

    app = web.Application()
    add_routes(app)
    return document(app.router, server=BASE)


def texts(told: dict[str, Any]) -> dict[Path, str]:
    """What is kept in the repository, by where it lies."""
    return {TEXT: markdown(told), POSTMAN: as_text(collection(told))}


def write_pages(told: dict[str, Any], folder: Path) -> None:
    """Pages for any web server: Swagger UI, ReDoc, the document and all that they need."""
    from api.openapi.assets import asset, names, redoc_page, swagger_page

    (folder / "assets").mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "index.html").write_text(swagger_page("assets", "openapi.json"), "utf-8")
    (folder / "redoc.html").write_text(redoc_page("assets", "openapi.json"), "utf-8")
    for name in names():
        (folder / "assets" / name).write_bytes(asset(name))


if __name__ == "__main__":
    main()
