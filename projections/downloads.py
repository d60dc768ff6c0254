"""How each download stands: one row for each, of which `streams.downloads` says how events change it.

What was deleted keeps its row, so that numbers stay dense and nothing is taken for unknown.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Text

from projections import tables
from projections.projection import RowFold
from streams.codec import Recorded
from streams.downloads import Download, folded
from streams.identity import download_subject
from streams.paths import escape_path, unescape_path

Row = dict[str, Any]

MAX_CLIENT = 128
"""Characters."""

MAX_ARCHIVE_KEY = 512
"""Characters."""

downloads = tables.table(
    "downloads",
    # download:<number>
    Column("id", tables.identifier(), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("key", tables.identifier(), nullable=False),
    Column("url", Text, nullable=False),
    Column("directory", Text, nullable=False),
    # JSON
    Column("options", tables.long_text(), nullable=False),
    Column("client_id", String(MAX_CLIENT)),
    Column("parent", BigInteger),
    Column("subscription", BigInteger),
    Column("entry", Text),
    # what tells that two would fetch the same
    Column("archive_key", String(MAX_ARCHIVE_KEY)),
    Column("title", Text, nullable=False),
    # Pending, Processing, Downloaded, Error
    Column("status", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("take", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("until", tables.moment()),
    Column("host", Text),
    Column("error", String(64)),
    Column("audio_only", Boolean, nullable=False),
    Column("uploader", Text),
    Column("duration", tables.real()),
    Column("webpage_url", Text),
    Column("size", tables.size()),
    Column("video", tables.identifier()),
    # paths are escaped; files and numbers are JSON
    Column("path", Text),
    Column("files", tables.long_text(), nullable=False),
    Column("duplicate_of", BigInteger),
    Column("numbers", tables.long_text(), nullable=False),
    Column("requested", tables.moment(), nullable=False),
    Column("changed", tables.moment(), nullable=False),
    Column("ver", BigInteger, nullable=False),
    Index("ix_downloads_number", "number"),
    Index("ix_downloads_status", "status", "number"),
    Index("ix_downloads_archive", "archive_key"),
    Index("ix_downloads_parent", "parent", "number"),
    Index("ix_downloads_video", "video"),
    Index("ix_downloads_client", "client_id", "changed"),
    Index("ix_downloads_changed", "changed"),
)


class DownloadsProjection(RowFold):
    """Folds what happens to downloads."""

    name = "downloads"
    version = 1
    tables = (downloads,)

    def wants(self, recorded: Recorded[Any]) -> bool:
        """All that happens to one: also what changes nothing moves its version."""
        return recorded.subject.startswith("download:")

    def fold(self, row: Row | None, recorded: Recorded[Any]) -> Row | None:
        """The row after the event."""
        before = None if row is None else as_download(row)
        after = folded(before, recorded)
        return row if after is before else None if after is None else as_row(after)


def as_row(download: Download) -> Row:
    """A download as the table holds it."""
    return {
        "id": download_subject(download.number),
        "number": download.number,
        "key": download.key[:64],
        "url": download.url,
        "directory": download.directory,
        "options": orjson.dumps(dict(download.options)).decode(),
        "client_id": None if download.client_id is None else download.client_id[:MAX_CLIENT],
        "parent": download.parent,
        "subscription": download.subscription,
        "entry": download.entry,
        "archive_key": stored_key(download.archive_key),
        "title": download.title,
        "status": download.status,
        "phase": download.phase,
        "message": download.message,
        "take": download.take,
        "attempt": download.attempt,
        "failures": download.failures,
        "until": None if download.until is None else tables.utc(download.until),
        "host": download.host,
        "error": None if download.error is None else download.error[:64],
        "audio_only": download.audio_only,
        "uploader": download.uploader,
        "duration": download.duration,
        "webpage_url": download.webpage_url,
        "size": download.size,
        "video": None if download.video is None else download.video[:64],
        "path": None if download.path is None else escape_path(download.path),
        "files": orjson.dumps([escape_path(path) for path in download.files]).decode(),
        "duplicate_of": download.duplicate_of,
        "numbers": orjson.dumps(download.numbers).decode(),
        "requested": tables.utc(download.requested),
        "changed": tables.utc(download.changed),
        "ver": download.ver,
    }


def as_download(row: Row) -> Download:
    """A row of the table in our words."""
    return Download(
        **{name: row[name] for name in _PLAIN},
        options=orjson.loads(row["options"]),
        until=tables.aware(row["until"]),
        audio_only=bool(row["audio_only"]),
        path=None if row["path"] is None else unescape_path(row["path"]),
        files=tuple(unescape_path(path) for path in orjson.loads(row["files"])),
        numbers=tuple(orjson.loads(row["numbers"])),
        requested=_aware(row["requested"]),
        changed=_aware(row["changed"]),
    )


def stored_key(archive_key: str | None) -> str | None:
    """An archive key as the table holds it."""
    return None if archive_key is None else archive_key[:MAX_ARCHIVE_KEY]


_PLAIN = ("number", "key", "url", "directory", "client_id", "parent", "subscription", "entry", "title", "phase",
          "message", "take", "attempt", "failures", "host", "error", "uploader", "duration", "webpage_url", "size",
          "video", "duplicate_of", "ver")  # fmt: skip


def _aware(at: datetime) -> datetime:
    found = tables.aware(at)
    assert found is not None
    return found
