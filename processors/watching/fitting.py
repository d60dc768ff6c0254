"""What the catalogue could not hold is refused before it becomes an event, and said."""

from __future__ import annotations

import os
from urllib.parse import quote

from streams.paths import escape_path
from streams.settings import Settings

MAIN_DIR = 512
"""Characters of `videos.main_dir`."""

PATH = 1024
"""Characters of `videos.des_video_path` and of `videos.des_url`."""


def unfit(settings: Settings, root: str, relative: str) -> str | None:
    """Why a file cannot be registered; None where it can."""
    path = os.path.join(root, relative)
    length = len(escape_path(path))
    if length > PATH:
        return f"its path has {length} characters; the catalogue holds {PATH}. Use shorter names."
    bases = [settings.public_url, settings.storage_url or ""]
    # Each byte becomes three characters at the most; only paths that may be too long are worked out.
    if 3 * len(os.fsencode(path)) + max(map(len, bases)) + 1 > PATH:
        base_path = str(settings.base_path or root)
        below = os.path.relpath(path, base_path) if _inside(path, base_path) else path
        url = max(len(base) for base in bases) + 1 + len(quote(os.fsencode(below)))
        if url > PATH:
            return f"its URL would have {url} characters; the catalogue holds {PATH}. Use shorter names."
    return None


def unfit_root(root: str) -> str | None:
    """Why a root cannot be watched; None where it can."""
    length = len(escape_path(root))
    if length > MAIN_DIR:
        return f"its path has {length} characters; the catalogue holds {MAIN_DIR}. Watch a folder with a shorter path."
    return None


def unserved(settings: Settings, root: str, relative: str) -> bool:
    """Whether the web server in front does not serve this file."""
    return settings.served_dir is not None and not _inside(os.path.join(root, relative), str(settings.served_dir))


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == os.path.normpath(folder)
