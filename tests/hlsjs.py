"""hls.js for the tests that play ladders: fetched once from the npm registry, checked, kept in a cache folder."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

VERSION = "1.7.4"
SHA512 = "3GlxGdPvT2YHvQYOt+yOzT/DEior/qJVNIylHA77kgeoBTdQQqi70GwefNEUmHQeNGyjC8U62+bruqW/Tpm+tg=="
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoolhouse-tests"


def hls_js() -> str:
    """The script's text. Skips the test where there is no npm; raises RuntimeError where npm cannot fetch it."""
    kept = CACHE / f"hls-{VERSION}.min.js"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("hls.js is fetched by npm, which is not installed: apt-get install npm")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [npm, "pack", f"hls.js@{VERSION}", "--silent", "--pack-destination", folder]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
            packed = Path(folder, f"hls.js-{VERSION}.tgz")
            if not packed.exists():
                raise RuntimeError(f"npm could not fetch hls.js {VERSION}: {done.stderr.strip()[-300:]}")
            if base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() != SHA512:
                raise RuntimeError(f"what npm fetched is not hls.js {VERSION} as it was when this test was written")
            with tarfile.open(packed) as archive:
                script = archive.extractfile("package/dist/hls.min.js")
                assert script is not None
                whole = Path(folder, "hls.min.js")
                whole.write_bytes(script.read())
            whole.replace(kept)
    return kept.read_text("utf-8")
