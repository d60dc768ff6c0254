"""One large upload to Google Drive beside the client library's own loop: same file, same chunks, same server.

The server is the tests' Drive. Ours reads the file for its MD5, too, tells each chunk to the log,
compares what Drive has, and shares it; the loop sends, and that is all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import google_auth_httplib2
import httplib2
from google.oauth2 import service_account
from googleapiclient import discovery
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import MediaFileUpload

from processors.drive import SIDE_BY_SIDE, drive
from processors.ports import Drive
from processors.storage.drive import open_drive
from scripts.bench_parts import worlds
from scripts.bench_parts.processes import MIB, Peak, in_child
from scripts.bench_parts.rows import Row, Size, in_turns, rate_row
from streams.codec import Recorded
from streams.entries import new_event
from streams.events import Event, VideoStored
from streams.faust.hosting import hosted_by_faust
from streams.identity import new_video_id
from streams.log import open_log
from streams.paths import OsPath
from streams.processing import Context, First
from streams.queries import Histories
from streams.settings import Settings
from tests.drive_server import DriveServer

MARGIN = 40 * MIB
"""Memory above the chunks that one upload may take: sockets, the library, the log."""


def run(size: Size) -> list[Row]:
    """Throughput beside the peer, memory."""
    length, rounds = size.of(MIB, 128 * MIB, 1024 * MIB), size.of(1, 3, 5)
    with worlds.folder("drive") as place, worlds.redis(place) as redis, DriveServer(place / "server") as server:
        settings = worlds.settings(
            place,
            drive_folder_id=server.shared_drive_folder_id,
            drive_credentials=server.credentials(place / "credentials.json"),
            drive_endpoint=server.url,
        )
        film = place / "film.mp4"
        _noise(film, length)
        grown: list[int] = []

        def ours() -> float:
            seconds, growth = in_child(_ours, settings, redis.url, film)
            grown.append(growth)
            _tidy(server)
            return length / MIB / seconds

        def bare() -> float:
            seconds = in_child(_bare, settings, film)
            _tidy(server)
            return length / MIB / seconds

        one, other = in_turns(rounds, ours, bare)
    chunk = settings.drive_chunk_size
    what = (
        f"upload of {length / MIB:,.0f} MiB to Drive in chunks of {chunk / MIB:.0f} MiB (peer: the client's own loop)"
    )
    most = 2 * chunk + MARGIN
    return [
        rate_row(what, one, other, "MiB/s", None if size is Size.TINY else 0.9),
        Row(
            f"memory that one upload takes ({SIDE_BY_SIDE} go side by side)",
            f"{max(grown) / MIB:.0f} MiB",
            target=f"< {most / MIB:.0f} MiB",
            ok=max(grown) < most,
        ),
    ]


async def _ours(settings: Settings, url: str, film: Path) -> tuple[float, int]:
    """Seconds from the event to the end of its upload, in a worker that is at work; bytes it grew by."""
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def handle(recorded: Recorded[Any], context: Context) -> AsyncIterator[Event | First]:
        async for event in drive.handler(recorded, context):
            yield event
        ended.put_nowait(None)

    small = film.with_name("small.mp4")
    await asyncio.to_thread(_noise, small, MIB)
    async with open_log(settings, url) as log, open_drive(settings) as port:
        services = {Drive: port, Histories: log}
        async with hosted_by_faust(replace(drive, handler=handle), log, services, settings, "bench"):
            seconds = 0.0
            for path in (small, film):  # the first one fetches the token and opens the connection
                event = _stored(path)
                with Peak(os.getpid()) as memory:
                    began = time.perf_counter()
                    await log.append(new_event(new_video_id(), event, source="bench"))
                    await ended.get()
                    seconds = time.perf_counter() - began
    return seconds, memory.growth


async def _bare(settings: Settings, film: Path) -> float:
    """Seconds of the loop in the library's documentation."""
    return await asyncio.to_thread(partial(_loop, settings, film))


def _loop(settings: Settings, film: Path) -> float:
    assert settings.drive_credentials is not None
    credentials = service_account.Credentials.from_service_account_file(
        str(settings.drive_credentials), scopes=["https://www.googleapis.com/auth/drive"]
    )
    plain = httplib2.Http(timeout=60)
    plain.redirect_codes = httplib2.REDIRECT_CODES - {308}
    http = google_auth_httplib2.AuthorizedHttp(credentials, plain)
    credentials.refresh(google_auth_httplib2.Request(plain))
    document = json.loads(get_static_doc("drive", "v3")) | {"rootUrl": f"{settings.drive_endpoint}/"}
    files = discovery.build_from_document(document, http=http).files()
    files.generateIds(count=1).execute()
    began = time.perf_counter()
    request = files.create(
        body={"name": film.name, "parents": [settings.drive_folder_id]},
        media_body=MediaFileUpload(str(film), "video/mp4", settings.drive_chunk_size, resumable=True),
        supportsAllDrives=True,
    )
    answer = None
    while answer is None:
        _, answer = request.next_chunk()
    return time.perf_counter() - began


def _stored(path: Path) -> VideoStored:
    now = datetime.now(UTC)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # and the file lies in memory, for both sides
    return VideoStored(
        door="upload",
        path=OsPath(str(path)),
        stored_name=path.name,
        filename=path.name,
        original_name=path.name,
        label="",
        mime="video/mp4",
        size=path.stat().st_size,
        sha256=sha256,
        received_at=now,
        modified_at=now,
        revision=1,
    )


def _noise(path: Path, length: int) -> None:
    block = os.urandom(min(length, 16 * MIB))
    with path.open("wb") as file:
        for _ in range(length // len(block)):
            file.write(block)


def _tidy(server: DriveServer) -> None:
    """Give back what the uploads took on disk."""
    for path in (server.folder / "uploads").glob("*.bin"):
        os.truncate(path, 0)
