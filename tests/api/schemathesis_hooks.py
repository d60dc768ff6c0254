"""What schemathesis cannot invent: real videos, and cursors of ours. Its runs load this by `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies

KNOWN: dict[str, str] = json.loads(os.environ["SPOOLHOUSE_TEST_KNOWN"])
"""What of the variable parts of paths is there."""

CLIP = Path(os.environ["SPOOLHOUSE_TEST_CLIP"]).read_bytes()

# A whole video, half of one, and what is none at all.
files = strategies.sampled_from([CLIP, CLIP, CLIP[: len(CLIP) // 2]]) | strategies.binary(min_size=1, max_size=5000)
schemathesis.openapi.format("binary", files)
# Where there is no page before, there is no cursor.
schemathesis.openapi.format("cursor", strategies.just(""))


# Nothing is fetched by an API alone; what is queued by it leads nowhere all the same.
schemathesis.openapi.format("uri", strategies.integers(0, 999).map(lambda n: f"https://site.invalid/{n}"))


@schemathesis.hook
def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Two of three times ask for what is there: among invented ids nothing ever is."""
    if parameters and len(str(parameters)) % 3:
        numbered = context.operation.path.startswith(("/videos/", "/subscriptions/"))
        known = {**KNOWN, "id": str(len(str(parameters)) % 20 + 1)} if numbered else KNOWN
        return {name: known.get(name, value) for name, value in parameters.items()}
    return parameters
