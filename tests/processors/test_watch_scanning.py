"""Scans, surveys, and whether a root can be watched at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from processors.watching.comparing import Found
from processors.watching.fitting import unfit, unfit_root, unserved
from processors.watching.knowing import Index
from processors.watching.mounts import file_system_of, inotify_shortage, why_polling
from processors.watching.roots import WatchedRoot
from processors.watching.scanning import RootGoneError, look_at_root, scan, survey, wanted
from streams.errors import SettingsError
from streams.settings import Settings
from tests.processors.test_watch_comparing import known

EXTENSIONS = (".mp4", ".mkv")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def found(path: Path) -> Found:
    status = path.stat()
    return Found(status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_names():
    assert [name for name in ("a.mp4", "A.MP4", ".a.mp4", "a.mp4~", "a.mp4.part", "mp4", "a.avi") if wanted(name, EXTENSIONS)] == [
        "a.mp4",
        "A.MP4",
    ]  # fmt: skip


def test_only_what_differs_is_kept(tmp_path: Path):
    same, other = touch(tmp_path / "same.mp4"), touch(tmp_path / "sub" / "other.mp4")
    touch(tmp_path / "new.mkv")
    touch(tmp_path / "new.txt")
    index = Index(
        [
            known("same.mp4", found(same)),
            known("sub/other.mp4", found(other)._replace(size=7)),
            known("gone.mp4", found(same)._replace(inode=1)),
        ]
    )
    result = scan(str(tmp_path), EXTENSIONS, index.at)
    assert result.changed == ["new.mkv", "sub/other.mp4"]
    assert result.seen == {"same.mp4"}


@as_root
def test_what_lies_in_an_unreadable_folder_is_not_gone(public_folder: Path):
    tmp_path = public_folder
    touch(tmp_path / "locked" / "sub" / "a.mp4")
    (tmp_path / "locked").chmod(0)
    os.seteuid(65534)
    try:
        result = scan(str(tmp_path), EXTENSIONS, Index().at)
    finally:
        os.seteuid(0)
        (tmp_path / "locked").chmod(0o755)
    assert result.unreadable == ["locked"]
    assert not result.covers("locked/sub/a.mp4") and result.covers("locked two/a.mp4")


def test_a_missing_root_says_so(tmp_path: Path):
    with pytest.raises(RootGoneError, match="not there"):
        scan(str(tmp_path / "none"), EXTENSIONS, Index().at)
    with pytest.raises(RootGoneError, match="not a folder"):
        look_at_root(str(touch(tmp_path / "a.mp4")))


def test_links_among_folders_are_followed_once(tmp_path: Path):
    for name in "abcdefgh":
        touch(tmp_path / name / "clip.mp4")
        for other in "abcdefgh":
            (tmp_path / name / f"to {other}").symlink_to(tmp_path / other)
    result = scan(str(tmp_path), EXTENSIONS, Index().at)
    assert len(result.changed) == 8 + 8 * 7


def test_a_survey_finds_folders_and_links(tmp_path: Path):
    outside = tmp_path / "outside"
    touch(outside / "a.mp4")
    root = tmp_path / "root"
    touch(root / "in" / "b.mp4")
    (root / "away").symlink_to(outside)
    (root / "there").symlink_to(root / "in")
    (root / "loop").symlink_to(root)
    result = survey(str(root))
    assert (result.folders, result.strays, result.links) == (2, ["away"], [("there", "in")])


def test_scanning_twenty_thousand_known_files_is_not_much_slower_than_find(tmp_path: Path):
    for folder in range(40):
        (tmp_path / str(folder)).mkdir()
        for index in range(500):
            (tmp_path / str(folder) / f"{index}.mp4").touch()
    result = scan(str(tmp_path), EXTENSIONS, Index().at)
    index = Index(known(path, found(tmp_path / path)) for path in result.changed)
    import time

    def timed(function: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
        return min(times)

    find = timed(
        lambda: subprocess.run(
            ["find", str(tmp_path), "-printf", "%p %s %T@ %i\n"], stdout=subprocess.DEVNULL, check=True
        )
    )
    again = timed(lambda: scan(str(tmp_path), EXTENSIONS, index.at))
    print(f"find {find * 1000:.0f} ms, scan with nothing new {again * 1000:.0f} ms: {again / find:.1f} x")
    assert not scan(str(tmp_path), EXTENSIONS, index.at).changed
    assert again < 5 * find


# ---------------------------------------------------------------- can it be watched?


def test_a_local_root_is_watched(make_settings: Callable[..., Settings], tmp_path: Path):
    assert why_polling(make_settings(), str(tmp_path), 3, []) is None


def test_reasons_to_poll(make_settings: Callable[..., Settings], tmp_path: Path):
    forced = why_polling(make_settings(watch_force_polling=True), str(tmp_path), 3, [])
    assert forced is not None and "FORCE_POLLING" in forced
    stray = why_polling(make_settings(), str(tmp_path), 3, ["away"])
    assert stray is not None and "away" in stray


def test_too_few_inotify_watches_name_the_command(tmp_path: Path):
    (tmp_path / "max_user_watches").write_text("1000\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    assert inotify_shortage(800, str(tmp_path)) is None
    reason = inotify_shortage(950, str(tmp_path))
    assert reason is not None and "sudo sysctl fs.inotify.max_user_watches=" in reason
    assert inotify_shortage(3, str(tmp_path / "none")) == "this system has no inotify"


def test_the_kind_of_file_system_is_that_of_the_nearest_mount(tmpfs: Path):
    (tmpfs / "deep").mkdir()
    assert file_system_of(str(tmpfs / "deep")) == "tmpfs"
    assert file_system_of("/proc") == "proc"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_when_the_watches_run_out_the_root_is_polled(tmp_path: Path, redis_url: str):
    """In a user namespace of its own, inotify can be made too small for real."""
    root = tmp_path / "root"
    for index in range(20):
        (root / str(index)).mkdir(parents=True)
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from streams.log import open_log
        from streams.settings import load_settings
        from tests.processors.watched import Watched, write

        async def main():
            root = Path(sys.argv[1])
            settings = load_settings(data=root.parent / "data", watch=(root,), watch_poll_interval=0.2)
            async with open_log(settings, sys.argv[2]) as log:
                watched = Watched(log, settings, root)
                await watched.reserve()
                async with watched.running():
                    write(root / "3" / "clip.mp4")
                    await watched.becomes("3/clip.mp4")

        asyncio.run(main())
        """)
    )
    ran = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", 'echo 5 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh",
         sys.executable, str(program), str(root), redis_url],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "unshare" in ran.stderr or "cannot create" in ran.stderr:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "polling instead of watching" in ran.stdout and "sysctl fs.inotify.max_user_watches" in ran.stdout


# ---------------------------------------------------------------- what the catalogue can hold


def test_paths_and_urls_that_do_not_fit_are_refused(make_settings: Callable[..., Settings]):
    settings = make_settings(base_url="http://videos.example/media")
    assert unfit(settings, "/root", "a.mp4") is None
    assert unfit(settings, "/root", "/".join(["d" * 240] * 4) + ".mp4") is None
    assert "its path has" in (unfit(settings, "/root", "/".join(["d" * 240] * 5) + ".mp4") or "")
    umlauts = "/".join(["ü" * 100] * 2) + ".mp4"
    assert "URL" in (unfit(settings, "/root", umlauts) or "")
    assert unfit(settings, "/root", "/".join(["\udcff" * 100] * 3) + ".mp4"), "as \\xff they take four characters each"


def test_a_root_with_too_long_a_path_is_refused(make_settings: Callable[..., Settings]):
    assert unfit_root("/" + "r" * 511) is None
    long = "/" + "r" * 512
    with pytest.raises(SettingsError, match="holds 512"):
        WatchedRoot(None, make_settings(), long, None)  # type: ignore[arg-type]


def test_files_outside_what_is_served(make_settings: Callable[..., Settings], tmp_path: Path):
    settings = make_settings(served_dir=tmp_path / "served")
    assert unserved(settings, str(tmp_path), "a.mp4")
    assert unserved(settings, str(tmp_path), "served two/a.mp4")
    assert not unserved(settings, str(tmp_path), "served/a.mp4")
    assert not unserved(make_settings(), str(tmp_path), "a.mp4")
