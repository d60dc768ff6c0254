"""Figures for Prometheus: uploads, answers, storage, how far the readers of the log are behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api.multipart import BrokenOffError
from streams.errors import RejectedError
from streams.inspecting import GroupTotal


class Upload:
    """One upload as it is counted."""

    def __init__(self, counter: Counter) -> None:
        self._bytes = counter
        self.result = "failed"

    def stored(self, size: int) -> None:
        """It is durable."""
        self.result = "stored"
        self._bytes.inc(size)


class Metrics:
    """The figures of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.uploads = Counter("spoolhouse_uploads", "Uploads by how they ended.", ["result"], registry=self.registry)
        for result in ("stored", "refused", "broken_off", "failed"):
            self.uploads.labels(result)
        self.upload_bytes = Counter("spoolhouse_upload_bytes", "Bytes stored by uploads.", registry=self.registry)
        self.upload_seconds = Histogram(
            "spoolhouse_upload_seconds",
            "Duration of uploads that were stored.",
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
            registry=self.registry,
        )
        self.under_way = Gauge("spoolhouse_uploads_under_way", "Uploads just now.", registry=self.registry)
        self.drive = Counter(
            "spoolhouse_drive_answers",
            "Uploads that waited for Google Drive, by what they were answered.",
            ["result"],
            registry=self.registry,
        )
        for result in ("completed", "failed", "pending"):
            self.drive.labels(result)
        self.drive_seconds = Histogram(
            "spoolhouse_drive_seconds",
            "From the durable file to the whole copy in Google Drive, of uploads that waited for it.",
            buckets=(0.5, 1, 2, 5, 15, 60, 180, 540),
            registry=self.registry,
        )
        self.videos = Gauge("spoolhouse_stored_videos", "Uploads that lie in storage.", registry=self.registry)
        self.bytes = Gauge("spoolhouse_stored_bytes", "Bytes of those.", registry=self.registry)
        self.free = Gauge("spoolhouse_storage_free_bytes", "Bytes left where uploads lie.", registry=self.registry)
        self.disk_free = Gauge(
            "spoolhouse_disk_free_bytes",
            "Bytes left on the disks that are written to.",
            ["folder"],
            registry=self.registry,
        )
        self.offloaded = Gauge(
            "spoolhouse_offloaded_videos", "Videos whose local copy was given up.", registry=self.registry
        )
        self.offloaded_bytes = Gauge("spoolhouse_offloaded_bytes", "Bytes of those.", registry=self.registry)
        self.websockets = Gauge("spoolhouse_websockets", "WebSockets that are open here.", registry=self.registry)
        self.ready = Gauge("spoolhouse_ready", "1 while /readyz answers 200.", registry=self.registry)
        labels = ["group"]
        self.lag = Gauge("spoolhouse_group_lag", "Entries a group has not seen.", labels, registry=self.registry)
        self.pending = Gauge("spoolhouse_group_pending", "Entries in work.", labels, registry=self.registry)
        self.delayed = Gauge(
            "spoolhouse_group_delayed", "Subjects waiting for a retry.", labels, registry=self.registry
        )
        self.parked = Gauge("spoolhouse_group_parked", "Entries waiting for a person.", labels, registry=self.registry)

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Count an upload and its duration."""
        upload, began = Upload(self.upload_bytes), time.monotonic()
        self.under_way.inc()
        try:
            yield upload
            self.upload_seconds.observe(time.monotonic() - began)
        except RejectedError as error:
            upload.result = "refused" if error.status < 500 else "failed"
            raise
        except (BrokenOffError, ConnectionError):
            upload.result = "broken_off"
            raise
        finally:
            self.under_way.dec()
            self.uploads.labels(upload.result).inc()

    def groups(self, totals: list[GroupTotal]) -> None:
        """Take over how the readers of the log stand."""
        for gauge in (self.lag, self.pending, self.delayed, self.parked):
            gauge.clear()
        for total in totals:
            self.lag.labels(total.group).set(total.lag)
            self.pending.labels(total.group).set(total.pending)
            self.delayed.labels(total.group).set(total.delayed)
            self.parked.labels(total.group).set(total.parked)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


METRICS = web.AppKey("metrics", Metrics)
