"""What this transport does not do, refused at once and with a way out."""

from __future__ import annotations

from typing import Any, NoReturn

from faust.exceptions import ImproperlyConfigured
from faust.types.enums import ProcessingGuarantee

from streams.connections import shown


def refuse(message: str) -> NoReturn:
    """Raise Faust's error for what cannot work."""
    raise ImproperlyConfigured(f"{message} (see docs/faust.md)")


def check_settings(app: Any, urls: list[Any]) -> None:
    """Raise ImproperlyConfigured for settings that cannot be honoured."""
    conf = app.conf
    if len(urls) != 1:
        refuse(f"one Redis is one broker, and broker= names {len(urls)}: {', '.join(shown(str(u)) for u in urls)}")
    if conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
        refuse(
            "processing_guarantee='exactly_once' needs Kafka's transactions. Use 'at_least_once' and handlers that do "
            "no harm when they see a message twice"
        )
    if conf.stream_publish_on_commit:
        refuse("stream_publish_on_commit=True needs offsets that are committed in order; send from the agent instead")
    if conf.producer_threaded:
        refuse("producer_threaded=True is Kafka's; sends are batched without a thread here")


def check_tables(app: Any) -> None:
    """Raise ImproperlyConfigured where the app has tables."""
    if names := sorted(app.tables):
        refuse(
            f"tables keep their contents in changelog topics, which Redis Streams are no good for: {', '.join(names)}. "
            "Keep state in a Redis hash or a database that the agent writes to"
        )


def check_topic(name: str, *, compacting: bool | None) -> None:
    """Raise ImproperlyConfigured for changelogs and their like."""
    if compacting:
        refuse(f"topic {name!r} is to be compacted (a changelog?), and streams cannot be. Keep its state in a hash")
