"""What a media file holds, looked at by a process of its own: no test process loads FFmpeg to look into results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_LOOK = """
import json, sys
import av
with av.open(sys.argv[1]) as container:
    video = container.streams.video[0]
    audio = next(iter(container.streams.audio), None)
    facts = {
        "format": container.format.name, "video": video.codec_context.name, "pixels": video.codec_context.pix_fmt,
        "width": video.width, "height": video.height,
        "audio": audio.codec_context.name if audio else None,
        "duration": container.duration / av.time_base if container.duration else None,
        "frames": sum(1 for _ in container.decode(video=0)),
    }
print(json.dumps(facts))
"""


def facts_of(path: Path) -> dict[str, Any]:
    """Format, codecs, size, duration (seconds) and decoded frames."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts
