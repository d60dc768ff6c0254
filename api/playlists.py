"""The master playlist of a ladder (RFC 8216): which rungs there are, and what each asks of player and line."""

from __future__ import annotations

import math
from collections.abc import Iterable

from streams.media import Rendition


def master(rungs: Iterable[Rendition]) -> str:
    """It names each rung's media playlist as `hls/<rendition id>.m3u8`, relative to itself. The largest first."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    for rung in rungs:
        average = math.ceil(rung.size * 8 / rung.duration) if rung.duration else None
        traits = [f"BANDWIDTH={max(rung.bit_rate, average or 0, 1)}"]
        if average:
            traits.append(f"AVERAGE-BANDWIDTH={average}")
        if rung.width and rung.height:
            traits.append(f"RESOLUTION={rung.width}x{rung.height}")
        if codecs := _quotable(rung.codecs):
            traits.append(f'CODECS="{codecs}"')
        lines += [f"#EXT-X-STREAM-INF:{','.join(traits)}", f"hls/{rung.id}.m3u8"]
    return "\n".join(lines) + "\n"


def _quotable(text: str) -> str:
    return "".join(character for character in text if character.isprintable() and character != '"')
