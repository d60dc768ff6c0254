"""Every part of scripts/bench runs, on tiny sizes. What it measures then means nothing."""

from __future__ import annotations

import importlib
import os

import pytest

from scripts.bench_parts import __main__ as bench
from scripts.bench_parts.rows import HEADINGS, Row, Size, percentile, rate_row


@pytest.fixture(autouse=True)
def _untouched_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts take away settings of ours; they come back after the test."""
    for name in [name for name in os.environ if name.startswith(("SPOOLHOUSE_", "MYSQL_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("part", bench.PARTS)
def test_part_runs_and_gives_rows(part: str) -> None:
    """A change that breaks a part is seen before someone wants its figures."""
    rows = importlib.import_module(f"scripts.bench_parts.{part}").run(Size.TINY)

    assert rows
    for row in rows:
        assert len(row.cells()) == len(HEADINGS)
        assert row.ours


def test_pairs_are_judged_by_the_median_of_their_ratios() -> None:
    """One round in which the machine was busy elsewhere changes nothing."""
    row = rate_row("appending", [100, 90, 10], [100, 100, 100], "events/s", 0.5)

    assert row.ratio == pytest.approx(0.9)
    assert (row.target, row.ok) == ("≥ 0.5 ×", True)
    assert rate_row("appending", [40, 40], [100, 100], "events/s", 0.5).ok is False


def test_what_has_no_target_is_not_judged() -> None:
    """It stands in the table for comparison."""
    assert Row("upload: no peer, node is not installed", "300 MiB/s").cells()[-1] == "—"
    assert rate_row("appending", [1], [2], "events/s").ok is None


def test_percentiles_are_values_that_were_measured() -> None:
    """No interpolation: the 99th of a hundred is the largest but none."""
    assert percentile(range(1, 101), 50) == 51
    assert percentile(range(1, 101), 99) == 100
    assert percentile([7.0], 99) == 7.0


def test_the_document_has_a_place_for_every_part(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """`--write` replaces what stands between the marks and nothing else."""
    from pathlib import Path

    document = Path(str(tmp_path)) / "performance.md"
    before = bench.DOCUMENT.read_text("utf-8")
    document.write_text(before, "utf-8")
    monkeypatch.setattr(bench, "DOCUMENT", document)
    for part in bench.PARTS:
        bench.write(part, [Row(f"{part} as \\1 it was measured", "1 s")])
    written = document.read_text("utf-8")
    assert all(f"| {part} as \\1 it was measured | 1 s |" in written for part in bench.PARTS)
    assert [line for line in written.splitlines() if line.startswith("## ")] == [
        line for line in before.splitlines() if line.startswith("## ")
    ]
