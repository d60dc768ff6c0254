"""When a file counts as complete."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processors.watching.comparing import Found
from processors.watching.settling import FASTEST, QUIET_NS, SLOWEST, Look, State, Waiting, ignore_lease_breaks, look_at

NOBODY = 65534
FOUND = Found(100, 5, 1, 2)
DAY = 86_400 * 10**9
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


@pytest.fixture(autouse=True)
def _leases() -> None:
    assert ignore_lease_breaks()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who owns nothing."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_is_free_once_its_writer_closed_it(folder: Path):
    with open(folder / "a.mp4", "wb") as file:
        file.write(b"x")
        file.flush()
        assert look_at(str(folder), "a.mp4").state is State.WRITTEN
    look = look_at(str(folder), "a.mp4")
    assert look.state is State.FREE and look.found is not None and look.found.size == 1


def test_readers_do_not_count(folder: Path):
    (folder / "a.mp4").write_bytes(b"x")
    with open(folder / "a.mp4", "rb"):
        assert look_at(str(folder), "a.mp4").state is State.FREE


def test_the_lease_is_given_back_at_once_so_that_writers_never_wait(folder: Path):
    (folder / "a.mp4").write_bytes(b"x")
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            look_at(str(folder), "a.mp4")

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(500):
            with open(folder / "a.mp4", "ab"):  # a lease in the way would send SIGIO, and block this
                pass
    finally:
        stop.set()
        looker.join()


@as_root
def test_who_does_not_own_the_file_is_refused_a_lease_and_waits_for_stillness(public_folder: Path):
    folder = public_folder
    (folder / "a.mp4").write_bytes(b"x")
    (folder / "secret.mp4").write_bytes(b"x")
    (folder / "secret.mp4").chmod(0)
    with nobody():
        assert look_at(str(folder), "a.mp4").state is State.UNCLEAR
        assert look_at(str(folder), "secret.mp4").state is State.UNCLEAR


def test_what_is_there_instead_of_a_file(folder: Path):
    os.mkfifo(folder / "fifo.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "out.mp4").symlink_to("/etc/passwd")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.mp4").write_bytes(b"x")
    (folder / "in.mp4").symlink_to("real.mp4")
    (folder / "real.mp4").write_bytes(b"xyz")
    states = {
        name: look_at(str(folder), name).state
        for name in ("fifo.mp4", "folder.mp4", "out.mp4", "loop.mp4", ".hidden/a.mp4", "none.mp4", "in.mp4/x.mp4")
    }
    assert states == {
        "fifo.mp4": State.OTHER,
        "folder.mp4": State.FOLDER,
        "out.mp4": State.OTHER,
        "loop.mp4": State.OTHER,
        ".hidden/a.mp4": State.OTHER,
        "none.mp4": State.GONE,
        "in.mp4/x.mp4": State.GONE,
    }
    look = look_at(str(folder), "in.mp4")
    assert look.state is State.FREE and look.found is not None and look.found.size == 3


def test_signals_can_only_be_arranged_in_the_main_thread():
    import signal

    before = signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(ignore_lease_breaks()))
        thread.start()
        thread.join()
        assert answers == [False]
    finally:
        signal.signal(signal.SIGIO, before)


def test_a_free_file_is_complete_once_its_times_were_left_alone_for_a_moment():
    """`shutil.copy2` closes the file first and sets its times afterwards."""
    waiting = Waiting()
    look = Look(State.FREE, FOUND, changed_ns=DAY)
    pause = waiting.judge(look, 10, now=1.0, wall_ns=DAY + QUIET_NS // 2)
    assert pause == pytest.approx(QUIET_NS / 2e9)
    assert waiting.judge(look, 10, now=1.0 + pause, wall_ns=DAY + QUIET_NS) == 0
    assert waiting.settled_by == "lease"


def test_a_clock_that_went_back_does_not_hold_a_file_up():
    assert Waiting().judge(Look(State.FREE, FOUND, changed_ns=DAY), 10, now=1.0, wall_ns=DAY - 10**12) == 0


def test_looks_at_a_written_file_slow_down_and_quicken_with_each_change():
    waiting, now = Waiting(), 0.0
    pauses = [waiting.judge(Look(State.WRITTEN, FOUND, DAY), 10, now=(now := now + 1), wall_ns=DAY) for _ in range(40)]
    assert pauses[0] == FASTEST and pauses[-1] == SLOWEST and pauses == sorted(pauses)
    grown = FOUND._replace(size=200)
    assert waiting.judge(Look(State.WRITTEN, grown, DAY), 10, now=now + 1, wall_ns=DAY) == FASTEST


def test_without_leases_a_file_must_stand_still():
    waiting = Waiting()
    look = Look(State.UNCLEAR, FOUND._replace(modified_ns=DAY), DAY)
    assert waiting.judge(look, 10, now=100.0, wall_ns=DAY) > 0
    assert waiting.judge(look, 10, now=109.9, wall_ns=DAY) > 0
    grown = Look(State.UNCLEAR, FOUND._replace(modified_ns=DAY + 1), DAY + 1)
    assert waiting.judge(grown, 10, now=110.0, wall_ns=DAY) > 0
    assert waiting.judge(grown, 10, now=119.9, wall_ns=DAY) > 0
    assert waiting.judge(grown, 10, now=120.0, wall_ns=DAY) == 0
    assert waiting.settled_by == "stillness"


def test_without_leases_an_old_file_needs_no_waiting_at_start():
    waiting = Waiting()
    assert waiting.judge(Look(State.UNCLEAR, FOUND, 5), 10, now=1.0, wall_ns=DAY) == 0
    assert waiting.settled_by == "scan"


def test_an_empty_file_is_given_time():
    waiting = Waiting()
    look = Look(State.FREE, FOUND._replace(size=0, modified_ns=DAY), DAY)
    assert waiting.judge(look, 10, now=1.0, wall_ns=DAY + 10**9) > 0
    assert waiting.judge(look, 10, now=11.0, wall_ns=DAY + 11 * 10**9) == 0
