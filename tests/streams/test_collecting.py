"""Pausing the garbage collector."""

from __future__ import annotations

import gc

import pytest

from streams.collecting import garbage_uncollected


def test_nothing_is_collected_within_and_it_goes_on_after() -> None:
    """Also where the body fails, and where one body lies within another."""
    with garbage_uncollected():
        with garbage_uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError), garbage_uncollected():
        raise ValueError
    assert gc.isenabled()
