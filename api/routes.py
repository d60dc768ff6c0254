"""Every route, on one page."""

from __future__ import annotations

import re
from functools import partial

from aiohttp import hdrs, web

from api.handlers import (
    documentation,
    documents,
    download_config,
    downloads,
    drive,
    health,
    intake,
    live,
    page,
    previews,
    renditions,
    statuses,
    streaming,
    subscriptions,
    uploads,
    videos,
)
from api.openapi.document import OTHER_WORDS
from api.receiving import defer_continue

DOWNLOADS = (
    (hdrs.METH_GET, "/videos", downloads.list_downloads),
    (hdrs.METH_POST, "/videos", downloads.add_download),
    (hdrs.METH_GET, "/videos/{id}", downloads.show_download),
    (hdrs.METH_PATCH, "/videos/{id}", downloads.change_download),
    (hdrs.METH_DELETE, "/videos/{id}", downloads.delete_download),
    (hdrs.METH_GET, "/config", download_config.show_config),
    (hdrs.METH_PATCH, "/config", download_config.change_config),
    (hdrs.METH_GET, "/subscriptions", subscriptions.list_subscriptions),
    (hdrs.METH_POST, "/subscriptions", subscriptions.subscribe),
    (hdrs.METH_GET, "/subscriptions/{id}", subscriptions.show_subscription),
    (hdrs.METH_PATCH, "/subscriptions/{id}", subscriptions.change_subscription),
    (hdrs.METH_DELETE, "/subscriptions/{id}", subscriptions.end_subscription),
)
"""Each of these is also there in the singular, and in any letter case."""


def in_other_words(path: str) -> str:
    """A path whose first word may be in the singular, and in any letter case: `/Video/3`."""
    word, slash, rest = path.removeprefix("/").partition("/")
    spelling = re.sub("s$", "s?", word)
    return f"/{{{OTHER_WORDS}:(?i:{spelling})}}{slash}{rest}"


def add_routes(app: web.Application) -> None:
    """Put all routes into the application's router."""
    add = app.router
    # The page
    add.add_get("/", page.index)
    add.add_get("/static/{name}", page.static)
    # Uploads, lists and figures as users of the upload service know them
    add.add_post("/api/upload-video", uploads.upload_video, expect_handler=defer_continue)
    add.add_get("/api/videos/list", videos.list_uploads)
    add.add_get("/api/videos/storage-stats", videos.storage_stats)
    add.add_get("/api/video-info/{filename:.+}", videos.video_info)
    # Enhancement as users of the media service know it
    add.add_post("/upload", intake.upload, expect_handler=defer_continue)
    add.add_get("/internal/video-enhancement-status/{file_id}", statuses.enhancement)
    add.add_get("/internal/metadata-extraction-status/{file_id}", statuses.extraction)
    add.add_get("/ws/{client_id}", live.watch)
    # The catalogue of every door
    add.add_get("/api/videos", videos.search)
    add.add_get("/api/videos/{id}", videos.one)
    add.add_get("/api/videos/{id}/events", videos.events)
    add.add_post("/api/videos/{id}/drive/retry", drive.retry_drive)
    add.add_post("/api/videos/{id}/enhance", renditions.enhance)
    # Playing: renditions by id and range, ladders, pictures, and what is known of a video's insides
    add.add_get("/processed_videos/{file_id}", streaming.processed_video)
    add.add_get("/processed_videos/{file_id}/master.m3u8", streaming.hls_master)
    add.add_get("/processed_videos/{file_id}/hls/{rendition}.m3u8", streaming.hls_playlist)
    add.add_get("/processed_videos/{file_id}/hls/{rendition}.mp4", streaming.hls_media)
    add.add_get("/metadata/{file_id}.json", documents.metadata)
    add.add_get("/api/videos/{id}/poster", previews.poster)
    add.add_get("/api/videos/{id}/sprite", previews.sprite)
    add.add_get("/api/videos/{id}/sprite.jpg", previews.sprite)
    add.add_get("/api/videos/{id}/thumbnails.vtt", previews.thumbnails)
    # Downloads
    for method, path, handler in DOWNLOADS:
        for words in (path, in_other_words(path)):
            (add.add_get if method == hdrs.METH_GET else partial(add.add_route, method))(words, handler)
    # For those who operate it
    add.add_get("/healthz", health.healthz)
    add.add_get("/readyz", health.readyz)
    add.add_get("/metrics", health.metrics)
    # What all of these are
    add.add_get("/openapi.json", documentation.openapi)
    add.add_get("/docs", documentation.docs)
    add.add_get("/docs/{name}", documentation.docs_asset)
    add.add_get("/redoc", documentation.redoc)
