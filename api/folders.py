"""The folders of ours, made where they are missing, and the name `uploads` for the one that has another."""

from __future__ import annotations

import os

import structlog

from streams.errors import StartError
from streams.settings import Settings

_log = structlog.get_logger(__name__)

ALIAS = "uploads"
"""What users of the media service call the folder for uploads; below `data`."""


def make_folders(settings: Settings) -> None:
    """All of them. Watched roots are the watcher's: a missing one may be an unmounted disk.

    Raises StartError for one that cannot be made.
    """
    folders = (
        *(settings.data, settings.uploads, settings.logs, settings.notifier_logs),
        *(settings.working, settings.sidecars),
        *(settings.processed, settings.metadata_documents, settings.previews_folder),
    )
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"The folder {folder} cannot be made: {error.strerror}. Make it, or set another."
            ) from error
    link_uploads(settings)


def link_uploads(settings: Settings) -> None:
    """Let `data/uploads` lead to the folder for uploads, where nothing lies there under that name.

    A convenience: what cannot be made is warned about.
    """
    link = settings.data / ALIAS
    if settings.uploads == link or os.path.lexists(link):
        return
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        inside = settings.uploads.is_relative_to(settings.data)
        # Relative, it goes along when `data` is moved; from elsewhere it could lead astray.
        os.symlink(os.path.relpath(settings.uploads, settings.data) if inside else settings.uploads, link)
    except FileExistsError:
        pass  # another process of ours was faster
    except OSError as error:
        _log.warning("the folder for uploads has no second name", link=str(link), error=error.strerror)
