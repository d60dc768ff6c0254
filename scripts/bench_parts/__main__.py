"""`scripts/bench [PART…] [--quick] [--write]`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.bench_parts.processes import quiet
from scripts.bench_parts.rows import HEADINGS, Row, Size

PARTS = (
    *("append", "groups", "projections", "visible", "live", "upload", "scan", "watch", "replicate", "drive"),
    *("enhance", "serve", "downloads"),
)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def main() -> int:
    """Measure, print, write. 1 where a target was missed."""
    arguments = _arguments()
    quiet()
    size = Size.QUICK if arguments.quick else Size.FULL
    console = Console()
    missed = 0
    for part in arguments.parts or PARTS:
        began = time.monotonic()
        rows = importlib.import_module(f"scripts.bench_parts.{part}").run(size)
        console.print(_table(f"{part} ({time.monotonic() - began:.0f} s)", rows))
        missed += sum(row.ok is False for row in rows)
        if arguments.write:
            write(part, rows)
    if arguments.write:
        _replace("machine", machine())
        console.print(f"written to {DOCUMENT}")
    if missed:
        console.print(f"[red]{missed} target(s) missed")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of: {', '.join(PARTS)} (all)")
    parser.add_argument(
        "--quick", action="store_true", help="less of everything: minutes instead of a quarter of an hour"
    )
    parser.add_argument("--write", action="store_true", help=f"put the figures into {DOCUMENT.name}")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return arguments


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.ok is False else None)
    return table


def write(part: str, rows: list[Row]) -> None:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    _replace(part, "\n".join("| " + " | ".join(cells) + " |" for cells in lines))


def _replace(mark: str, text: str) -> None:
    """Put text between the document's marks of that name."""
    document = DOCUMENT.read_text("utf-8")
    pattern = re.compile(rf"(<!-- bench:{mark} -->\n).*?(<!-- /bench:{mark} -->)", re.DOTALL)
    written, count = pattern.subn(lambda found: f"{found[1]}{text}\n{found[2]}", document)
    if count != 1:
        raise SystemExit(f"{DOCUMENT} has no marks <!-- bench:{mark} --> … <!-- /bench:{mark} -->")
    DOCUMENT.write_text(written, "utf-8")


def machine() -> str:
    """The machine and the versions of everything, without a date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [
        f"Python {platform.python_version()}",
        _version("redis-server", r"v=([\d.]+)", "Redis {}"),
        _version("mariadbd", r"Ver ([\d.]+)", "MariaDB {}"),
        _version("node", r"v([\d.]+)", "Node.js {}"),
        _version("nginx", r"nginx/([\d.]+)", "nginx {}", "-v"),
    ]
    system = f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {system}; {', '.join(versions)}."


def _version(program: str, pattern: str, form: str, flag: str = "--version") -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return f"no {program}"
    said = subprocess.run([path, flag], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(pattern, said.stdout + said.stderr)
    return form.format(found[1] if found else "of unknown version")


if __name__ == "__main__":
    sys.exit(main())
