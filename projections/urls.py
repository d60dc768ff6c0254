"""The URL under which a web server in front of us serves a watched file."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from urllib.parse import quote

from streams.settings import Settings


def des_url(settings: Settings, path: str) -> str:
    """`NGINX_BASE_URL` + the path relative to `BASE_PATH`, normalised and percent-encoded.

    Files below STORAGE_PC_VIDEO_DIR get STORAGE_PC_BASE_URL and their path below that folder.
    Without BASE_PATH a path is relative to its watched root. A path outside stands whole behind the
    base URL. `path` is as `os` gives it; bytes that are not UTF-8 are percent-encoded as they are.
    """
    whole = posixpath.normpath("/" + path.lstrip("/"))
    if settings.storage_dir is not None and settings.storage_url is not None:
        below = _below(whole, settings.storage_dir)
        if below is not None:
            return _joined(settings.storage_url, below)
    bases = [settings.base_path] if settings.base_path is not None else list(settings.watch_roots)
    for base in bases:
        if (below := _below(whole, base)) is not None:
            return _joined(settings.public_url, below)
    return _joined(settings.public_url, whole)


def url_settings(settings: Settings) -> str:
    """Everything that `des_url` depends on besides the path."""
    bases = settings.base_path or ",".join(map(str, settings.watch_roots))
    return "|".join(map(str, (settings.public_url, bases, settings.storage_dir, settings.storage_url)))


def _below(path: str, folder: Path) -> str | None:
    base = posixpath.normpath(str(folder))
    if path == base or path.startswith(base.rstrip("/") + "/"):
        return path[len(base) :] if base != "/" else path
    return None


def _joined(base: str, path: str) -> str:
    return base.rstrip("/") + "/" + quote(os.fsencode(path.lstrip("/")), safe="/")
