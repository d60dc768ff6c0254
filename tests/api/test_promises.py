"""schemathesis reads the document and asks the running API thousands of odd things: it keeps what it promises."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.api.running import Api

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
# What is uploaded may turn out to be no video, and in a form everything is text: `true` is no wrong type.
[[operations]]
include-path-regex = "upload"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 415]
[operations.checks.negative_data_rejection]
expected-statuses = ["2xx", "4xx"]

# Whoever asks for a WebSocket without being one is told so.

[[operations]]
include-path-regex = "^/ws"
[operations.checks.positive_data_acceptance]
enabled = false

# There is no worker beside this API, and it says so.
[[operations]]
include-path = "/readyz"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
"""


async def test_the_api_keeps_what_its_document_promises(
    api: Api, clip: Path, rng: random.Random, tmp_path: Path
) -> None:
    """Statuses, media types, shapes; nothing valid is refused, nothing invalid taken, nothing fails inside."""
    for number in range(3):
        assert (await api.upload(clip.read_bytes() + bytes(number), f"{number}.mp4")).status == 200
    await api.settled()
    config, folder = tmp_path / "schemathesis.toml", tmp_path / "schemathesis"
    config.write_text(CONFIG)
    folder.mkdir()
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{api.url}/openapi.json"),
        *("--seed", str(rng.randrange(2**32)), "--max-examples", "10", "--no-color", "--warnings", "off"),
        *("--request-timeout", "30", "--generation-database", "none"),
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
            "SPOOLHOUSE_TEST_CLIP": str(clip),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(240):
            told, _ = await run.communicate()
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()
    print(told.decode())
    assert run.returncode == 0, "see what schemathesis says above; `Seed` repeats it"
