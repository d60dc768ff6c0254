"""Examples in the document. What they say of a video's content was read from a real one, by the real prober.

`probed.json` is written by `scripts/generate_api_docs`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson

from api.formats import megabytes
from api.shapes import ShownVideo

PROBED: dict[str, Any] = orjson.loads(files("api.openapi").joinpath("probed.json").read_bytes())
"""`processors.ports.Probed` of a short video."""

METADATA: dict[str, Any] = PROBED["metadata"] or PROBED
"""What `/metadata/{file_id}.json` shows of it."""

VIDEO_ID = "8f0a4c1e-6a53-4f0e-9a2b-3d1f7a5c9e10"

VIDEO: ShownVideo = {
    "id": VIDEO_ID,
    "door": "upload",
    "state": "present",
    "present": True,
    "filename": "Tutorial_clip.mp4",
    "stored_name": "20241112_143052_Tutorial_clip.mp4",
    "path": "/srv/spoolhouse/uploaded_videos/20241112_143052_Tutorial_clip.mp4",
    "root": None,
    "relative": None,
    "number": None,
    "size_bytes": PROBED["size"],
    "size_mb": megabytes(PROBED["size"]),
    "created": "2024-11-12T14:30:52",
    "modified": "2024-11-12T14:30:52",
    "duration": PROBED["duration"],
    "width": PROBED["width"],
    "height": PROBED["height"],
    "video_codec": PROBED["video_codec"],
    "audio_codec": PROBED["audio_codec"],
    "container": PROBED["container"],
    "frame_rate": PROBED["frame_rate"],
    "bit_rate": PROBED["bit_rate"],
    "mime": "video/mp4",
    "label": "Tutorial",
    "original_name": "clip.mp4",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "revision": 1,
    "adopted": False,
    "damaged": None,
    "probe_error": None,
    "parked": None,
    "duplicate_of": None,
    "title": "A lesson",
    "recorded": "2024-11-12T13:28:07.000000Z",
    "profile": "High",
    "pixel_format": "yuv420p",
    "rotation": 0,
    "hdr": False,
    "channels": 2,
    "poster": True,
    "playable": "4a1f5d0c-9e0b-5c55-8a1d-70d6a3c1c7b2",
    "rendition_of": None,
    "replicas": [],
}
