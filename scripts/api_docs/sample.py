"""What the examples say of a video: a short real one is made, and the real prober looks at it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from processors.media.probing import open_prober
from processors.ports import ProbeFailure
from streams.paths import OsPath

TARGET = Path(__file__).resolve().parents[2] / "api" / "openapi" / "probed.json"

VARYING = ("size", "bit_rate", "sha256")
"""Parts of the names of what an encoder makes a little different on another machine."""


def probe() -> dict[str, Any]:
    """All that is known of the video that `spoolhouse up --demo` takes in."""
    return asyncio.run(_probe())


def as_bytes(probed: dict[str, Any]) -> bytes:
    """As it is stored."""
    return orjson.dumps(probed, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def same(one: Any, other: Any) -> bool:
    """Whether two of them differ in nothing but what encoders make a little different."""
    return bool(_without(one) == _without(other))


async def _probe() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="spoolhouse-") as folder:
        path = Path(folder, "clip.mp4")
        maker = await asyncio.create_subprocess_exec(sys.executable, "-P", "-m", "processors.media.demo", str(path))
        async with asyncio.timeout(120):
            if await maker.wait():
                raise SystemExit("The sample video could not be made; see above.")
        async with open_prober(timeout=60.0) as prober:
            probed = await prober.probe(OsPath(str(path)))
    if isinstance(probed, ProbeFailure):
        raise SystemExit(f"The sample video could not be probed: {probed.reason}")
    return asdict(probed)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if not any(part in key for part in VARYING)}
    return [_without(one) for one in value] if isinstance(value, list | tuple) else value
