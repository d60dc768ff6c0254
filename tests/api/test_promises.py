"""schemathesis reads the document and asks the running API thousands of odd things: it keeps what it promises."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
from pathlib import Path

from streams.entries import new_event
from streams.paths import OsPath
from tests.api.running import Api
from tests.projections.enhancing import previews, probed, rendition

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

# Whoever asks for bytes that are not there is told so.
[[operations]]
include-path-regex = "^/processed_videos"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 404, 409, 416, 503]

# Presets have names that the settings give them.
[[operations]]
include-path-regex = "/enhance$"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 409, 503]

# Folders, filters, templates and files of cookies have rules of their own; what is over cannot be cancelled. In JSON
# as people write it, `"720"` is a number, and 1 is true.
[[operations]]
include-path-regex = "^/(videos|config|subscriptions)"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 409]
[operations.checks.negative_data_rejection]
expected-statuses = ["2xx", "4xx"]

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
    known = await everything_of_a_video(api, clip)
    config, folder = tmp_path / "schemathesis.toml", tmp_path / "schemathesis"
    config.write_text(CONFIG)
    folder.mkdir()
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{api.url}/openapi.json"),
        *("--seed", str(rng.randrange(2**32)), "--max-examples", "8", "--no-color", "--warnings", "off"),
        *("--request-timeout", "30", "--generation-database", "none"),
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
            "SPOOLHOUSE_TEST_CLIP": str(clip),
            "SPOOLHOUSE_TEST_KNOWN": json.dumps(known),
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


async def everything_of_a_video(api: Api, clip: Path) -> dict[str, str]:
    """Take a video in and do the workers' part: renditions, pictures, metadata. What paths may ask for, by name."""
    with clip.open("rb") as file:
        answer = await api.ask("POST", "/upload", data={"file": file, "client_id": "me"})
    assert answer.status == 200
    video, content = answer.body["file_id"], clip.read_bytes()
    processed, pictures = api.settings.processed, api.settings.previews_folder / video
    for folder in (processed, pictures):
        folder.mkdir(parents=True, exist_ok=True)

    def written(path: Path, what: bytes = content) -> OsPath:
        path.write_bytes(what)
        return OsPath(str(path))

    of = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rung = rendition(
        video,
        "hls_120",
        kind="hls",
        height=120,
        path=written(processed / "rung.mp4"),
        playlist=written(processed / "rung.mp4.m3u8", b"#EXTM3U\n#EXT-X-ENDLIST\n"),
        **of,
    )
    shown = {
        name: written(pictures / file, name.encode())
        for name, file in {
            "poster": "poster.jpg",
            "poster_webp": "poster.webp",
            "sprite": "sprite.jpg",
            "thumbnails": "thumbnails.vtt",
        }.items()
    }
    for event in (probed(), rendition(video, path=written(processed / "web.mp4"), **of), rung, previews(**shown)):
        await api.services.log.append(new_event(video, event, source="test"))
    await api.settled()
    stored = (await api.get(f"/api/videos/{video}")).body["stored_name"]
    known = {"id": video, "file_id": video, "rendition": rung.rendition, "filename": stored, "name": "docs.js"}
    for path in (
        *(f"/processed_videos/{video}", f"/processed_videos/{video}/hls/{rung.rendition}.m3u8"),
        *(f"/processed_videos/{video}/master.m3u8", f"/metadata/{video}.json"),
        *(f"/api/videos/{video}/poster", f"/api/videos/{video}/sprite.jpg", f"/api/videos/{video}/thumbnails.vtt"),
    ):
        async with api.session.get(api.url + path) as answer_there:
            assert answer_there.status == 200, path
    return known
