"""What happened to a download or a subscription, in one line that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from streams import events
from streams.paths import escape_path


def worded(event: events.Event) -> str | None:
    """The line; None for an event of something else."""
    match event:
        case events.DownloadNumbered():
            return f"Number given to request {event.key}"
        case events.DownloadRequested():
            of = f", an entry of list {event.parent}" if event.parent is not None else ""
            found = f", found by subscription {event.subscription}" if event.subscription is not None else ""
            return f"Download of {event.url} into {event.directory} asked for{of}{found}{_given(event.options)}"
        case events.DownloadStarted():
            return f"Download began{_take(event)}: attempt {event.attempt}, from {event.host}"
        case events.DownloadRefreshed():
            return f"Queued again{_take(event)}"
        case events.DownloadDeleted():
            return f"Taken off the list; its files {'stay' if event.keep_file else 'are removed'}"
        case events.DownloadFilesRemoved():
            return f"Removed from the media root: {', '.join(map(escape_path, event.paths)) or 'nothing was there'}"
        case events.DownloadConfigChanged():
            return f"How downloads are made was changed{_given(event.config)}"
    return _under_way(event) or _ended(event) or _subscribed(event)


def _under_way(event: events.Event) -> str | None:
    match event:
        case events.DownloadExtracted():
            by = f" by {event.uploader}" if event.uploader else ""
            size = f", {_megabytes(event.size)}" if event.size is not None else ""
            return f"Page read: {event.title}{by} ({event.extractor} {event.media_id}){size}"
        case events.DownloadPartFinished():
            form = f", format {event.format}" if event.format else ""
            return f"Came down whole: {event.part}{form} ({_megabytes(event.size)})"
        case events.DownloadMerged():
            more = "".join(f"; {one}" for one in event.warnings)
            return f"Made one {event.container} file ({_megabytes(event.size)}){more}"
        case events.DownloadPostponed():
            at = event.until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
            return f"Put off until {at} UTC ({event.kind}): {event.reason}"
    return None


def _ended(event: events.Event) -> str | None:
    match event:
        case events.DownloadStored():
            more = "".join(f"; {one}" for one in event.warnings)
            return f"Stored as {escape_path(event.path)} ({_megabytes(event.size)}), video {event.video}{more}"
        case events.DownloadSkipped():
            return f"It was there already: download {event.number} fetched it, video {event.video}"
        case events.DownloadExpanded():
            there = f", {len(event.skipped)} were there already" if event.skipped else ""
            more = f"; there are more, the limit was {event.limit}" if event.more else ""
            return f"A list: {event.title}. {len(event.numbers)} of {event.entries} entries queued{there}{more}"
        case events.DownloadFailed():
            return f"Download failed ({event.kind}): {event.reason} {event.advice}".rstrip()
        case events.DownloadCancelled():
            return f"Download cancelled: {event.reason}"
    return None


def _subscribed(event: events.Event) -> str | None:
    match event:
        case events.SubscriptionNumbered():
            return f"Number given to subscription {event.key}"
        case events.SubscriptionCreated():
            only = f", what matches {event.filter}" if event.filter else ""
            return f"Subscribed to {event.url}, looked at every {event.interval:g} s, into {event.directory}{only}"
        case events.SubscriptionChanged():
            changed = {name: getattr(event, name) for name in ("interval", "filter", "directory", "paused")}
            return f"Changed{_given({name: value for name, value in changed.items() if value is not None})}"
        case events.SubscriptionDue():
            return f"Time for look {event.check}: {event.reason}"
        case events.SubscriptionChecked():
            new = f"{len(event.seen)} of {event.entries} entries are new, {len(event.numbers)} queued"
            return f"Looked at {event.title}: {new}"
        case events.SubscriptionCheckFailed():
            return f"Could not be looked at ({event.kind}): {event.reason}"
        case events.SubscriptionRemoved():
            return "No longer subscribed; what it fetched stays"
    return None


def _take(event: events.DownloadStarted | events.DownloadRefreshed) -> str:
    return f", take {event.take}" if event.take > 1 else ""


def _given(options: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in options.items())})" if options else ""


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.2f} MB"
