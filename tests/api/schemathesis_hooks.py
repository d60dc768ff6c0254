"""What schemathesis cannot invent: real videos, and cursors of ours. Its runs load this by `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies

CLIP = Path(os.environ["SPOOLHOUSE_TEST_CLIP"]).read_bytes()

# A whole video, half of one, and what is none at all.
files = strategies.sampled_from([CLIP, CLIP, CLIP[: len(CLIP) // 2]]) | strategies.binary(min_size=1, max_size=5000)
schemathesis.openapi.format("binary", files)
# Where there is no page before, there is no cursor.
schemathesis.openapi.format("cursor", strategies.just(""))
