"""Redis Streams as a transport for Faust: `faust.App("shop", broker="redis://localhost:6379/0")`.

Registered under the entry-point group `faust.transports`; docs/faust.md is its manual. It adapts
the consumer groups of `streams.groups` (leases, pending entries, acknowledgements) to the consumer
and producer that Faust expects, and hosts our own processors (`hosting`). It uses private API of
Faust 0.15.3, which is pinned; tests/streams/test_faust_contract.py says what it relies on.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Transport"]


def __getattr__(name: str) -> Any:
    """Import Faust only when somebody asks for the transport."""
    if name != "Transport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from streams.faust.transport import Transport

    return Transport
