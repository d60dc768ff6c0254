"""What the transport relies on in Faust 0.15.3: when one of these fails, read streams/faust before upgrading."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import faust
import pytest
from faust import streams as faust_streams
from faust.app.base import App
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import base
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer, Fetcher
from faust.transport.producer import Producer
from faust.types.tuples import ConsumerMessage, Message

from streams.faust import Transport
from streams.faust.consumer import Consumer as OurConsumer
from streams.faust.messages import StreamMessage
from streams.faust.producer import Producer as OurProducer


def test_exactly_the_version_that_was_looked_at_is_installed() -> None:
    assert version("faust-streaming") == "0.15.3"


def test_the_entry_points_are_registered() -> None:
    registered = {point.name: point.value for point in entry_points(group="faust.transports")}
    assert {name: registered.get(name) for name in ("redis", "rediss", "redis+unix")} == dict.fromkeys(
        ("redis", "rediss", "redis+unix"), "streams.faust:Transport"
    )


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (App, "_update_assignment on_rebalance_start _on_partitions_assigned _on_partitions_revoked _stop_consumer"),
        (App, "_on_agent_error crash wait_until_stopped"),
        (Consumer, "_drain_messages _add_gap _new_offset force_commit perform_seek on_task_error wait_empty"),
        (Consumer, "_wait_for_ack _clean_unacked_messages on_partitions_assigned on_buffer_full on_buffer_drop"),
        (Consumer, "pause_partitions resume_partitions resume_flow ack track_message _commit_handler"),
        (Conductor, "add _update_tp_index _update_callback_map on_partitions_assigned acks_enabled_for _subscriber"),
        (Producer, "send send_and_wait send_soon flush create_topic key_partition supports_headers on_start"),
        (Fetcher, "_fetcher wait_until_stopped"),
        (TableManager, "_update_channels on_start recovery wait_until_recovery_completed"),
        (Recovery, "on_rebalance _resume_streams"),
        (base.Transport, "create_consumer create_producer create_conductor"),
        (faust_streams, "current_event Stream"),
    ],
)
def test_what_is_called_or_overridden_is_there(owner: Any, names: str) -> None:
    missing = [name for name in names.split() if not hasattr(owner, name)]
    assert not missing, f"{owner.__name__} of this Faust has no {', '.join(missing)}"


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (OurConsumer, Consumer, "force_commit perform_seek _add_gap _new_offset _drain_messages subscribe"),
        (OurConsumer, Consumer, "on_buffer_full on_buffer_drop pause_partitions resume_partitions _getmany _seek"),
        (OurConsumer, Consumer, "on_task_error wait_empty"),
        (OurProducer, Producer, "send send_and_wait send_soon flush create_topic key_partition"),
    ],
)
def test_overridden_methods_take_what_faust_passes(ours: type, theirs: type, names: str) -> None:
    for name in names.split():
        if hasattr(theirs, name):
            expected = list(inspect.signature(getattr(theirs, name)).parameters)
            assert list(inspect.signature(getattr(ours, name)).parameters) == expected, f"{theirs.__name__}.{name}"


def test_the_transport_implements_all_that_is_abstract() -> None:
    assert not getattr(OurConsumer, "__abstractmethods__", None)
    assert Transport.Conductor._resubscribe_sleep_lock_seconds < Conductor._resubscribe_sleep_lock_seconds


def test_messages_are_skipped_by_generation_and_tracked_when_begun() -> None:
    source = Path(inspect.getsourcefile(faust_streams) or "").parent
    cython = (source / "_cython" / "streams.pyx").read_text()
    for relied_on in (
        "message.generation_id != self.app.consumer_generation_id",
        "self.add_unacked(message)",
        "acked_for_tp.append(offset)",
        "committed = consumer._committed_offset[tp]",
        "if not message.acked:",
    ):
        assert relied_on in cython, f"the compiled stream no longer does: {relied_on}"
    assert {"acked", "generation_id", "tracked", "refcount"} <= set(Message.__slots__)
    assert issubclass(StreamMessage, ConsumerMessage)
    assert ConsumerMessage.use_tracking


async def test_a_new_consumer_has_the_private_state_that_we_replace(tmp_path: Path) -> None:
    app = faust.App("contract", broker="redis://127.0.0.1:1", datadir=str(tmp_path), web_enabled=False)
    consumer = app.consumer
    for name in [
        "_acked",
        "_acked_index",
        "_read_offset",
        "_committed_offset",
        "_unacked_messages",
        "_active_partitions",
    ]:
        assert hasattr(consumer, name), f"Consumer has no {name} any more"
    for name in [
        "_buffered_partitions",
        "randomly_assigned_topics",
        "scheduler",
        "callback",
        "flow_active",
        "_waiting_for_ack",
    ]:
        assert hasattr(consumer, name), f"Consumer has no {name} any more"
    for name in [
        "_consumer",
        "_assignment",
        "unassigned",
        "consumer_generation_id",
        "flow_control",
        "client_only",
        "rebalancing",
    ]:
        assert hasattr(app, name), f"App has no {name} any more"
    assert hasattr(app.topics, "_tp_index")
    assert not app.tables.recovery.completed.is_set()
    await app.transport.close()
