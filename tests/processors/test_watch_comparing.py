"""What happened to the files of a root: decided without touching a disk."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from processors.watching.comparing import Changes, Found, compare, same_file, suspicious
from processors.watching.knowing import Index, unseen_file
from streams.queries import KnownFile

A, B, C = (Found(10 * n, 1000 + n, 1, n) for n in (1, 2, 3))


def known(relative: str, found: Found, *, present: bool = True, generation: int = 0, removals: int = 0) -> KnownFile:
    return KnownFile(
        f"id of {relative} {generation}", 3, relative, found.size, found.modified_ns, found.device, found.inode,
        1, generation, 7, present, 0, removals,
    )  # fmt: skip


def test_a_file_at_a_path_nobody_knows_is_new():
    [settle] = compare(Index().at, {"a.mp4": A}).settled
    assert (settle.relative, settle.revision, settle.generation, settle.known) == ("a.mp4", 1, 0, None)


def test_nothing_changed_says_nothing():
    assert not compare(Index([known("a.mp4", A)]).at, {"a.mp4": A})


def test_another_file_at_a_known_path_is_its_next_revision():
    file = known("a.mp4", A)
    [settle] = compare(Index([file]).at, {"a.mp4": B}).settled
    assert (settle.known, settle.revision) == (file, 2)


def test_gone_here_and_appeared_there_is_a_move():
    file = known("a.mp4", A)
    changes = compare(Index([file]).at, {"b.mp4": A}, [file])
    assert [(move.known, move.relative) for move in changes.moved] == [(file, "b.mp4")]
    assert not changes.removed and not changes.settled


def test_gone_and_nowhere_else_is_a_removal():
    file = known("a.mp4", A)
    assert compare(Index([file]).at, {"b.mp4": B}, [file]).removed == [file]


def test_the_very_file_back_at_its_path_returned():
    file = known("a.mp4", A, present=False, removals=1)
    assert compare(Index([file]).at, {"a.mp4": A}).returned == [(file, A)]


def test_another_file_after_a_removal_is_another_video():
    file = known("a.mp4", A, present=False, generation=4)
    [settle] = compare(Index([file]).at, {"a.mp4": B}).settled
    assert (settle.known, settle.revision, settle.generation) == (None, 1, 5)


def test_an_adopted_row_gets_its_first_revision_and_keeps_its_number():
    file = unseen_file("adopted", "a.mp4", 12)
    [settle] = compare(Index([file]).at, {"a.mp4": A}).settled
    assert (settle.known, settle.revision, settle.generation) == (file, 1, 0)


def test_a_rotation_is_two_moves():
    one, two = known("a.mp4", A), known("b.mp4", B)
    changes = compare(Index([one, two]).at, {"b.mp4": A, "c.mp4": B}, [one])
    assert {(move.known.id, move.relative) for move in changes.moved} == {(one.id, "b.mp4"), (two.id, "c.mp4")}
    assert not changes.settled and not changes.removed


def test_a_swap_is_two_moves():
    one, two = known("a.mp4", A), known("b.mp4", B)
    assert len(compare(Index([one, two]).at, {"a.mp4": B, "b.mp4": A}).moved) == 2


def test_a_known_file_renamed_over_another_is_a_revision_of_that_and_a_removal():
    one, two = known("a.mp4", A), known("b.mp4", B)
    changes = compare(Index([one, two]).at, {"b.mp4": A}, [one])
    assert [settle.known for settle in changes.settled] == [two]
    assert changes.removed == [one] and not changes.moved


def test_a_path_that_a_move_left_starts_another_generation():
    one = known("a.mp4", A)
    changes = compare(Index([one]).at, {"b.mp4": A, "a.mp4": C})
    assert [move.relative for move in changes.moved] == ["b.mp4"]
    assert [(settle.relative, settle.known, settle.generation) for settle in changes.settled] == [("a.mp4", None, 1)]


def test_a_remounted_disk_with_another_device_number_changes_nothing():
    file = known("a.mp4", A)
    assert same_file(file, A._replace(device=9)) and same_file(file, A._replace(device=9, inode=5))
    assert not same_file(file, A._replace(inode=5))
    assert not same_file(file, A._replace(device=9, size=11))


def test_moves_are_recognised_after_a_remount():
    file = known("a.mp4", A)
    assert compare(Index([file]).at, {"b.mp4": A._replace(device=9)}, [file], {1: 9}).moved


def test_when_vanishing_is_a_question():
    assert suspicious(1, 1, continuous=False)
    assert not suspicious(1, 1, continuous=True)
    assert suspicious(2, 2, continuous=True)
    assert suspicious(20, 30, continuous=True)
    assert not suspicious(19, 30, continuous=False)
    assert not suspicious(20, 40, continuous=False)
    assert not suspicious(0, 0, continuous=False)


paths = st.sampled_from([f"{name}.mp4" for name in "abcdef"])
contents = st.sampled_from([Found(size, 5, 1, inode) for size in (1, 2) for inode in range(1, 7)])
disks = st.dictionaries(paths, contents, max_size=6)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[KnownFile], dict[str, Found]]:
    """Known files with distinct inodes, some of them removed, and a disk."""
    files = [
        known(path, found, present=draw(st.booleans()), generation=draw(st.integers(0, 2)))
        for path, found in draw(st.dictionaries(paths, contents, max_size=6)).items()
    ]
    seen: set[int] = set()
    files = [file for file in files if file.inode not in seen and not seen.add(file.inode)]
    return files, draw(disks)


def applied(files: list[KnownFile], changes: Changes) -> list[KnownFile]:
    """What is known once the changes are in the log."""
    by_id = {file.id: file for file in files}
    for move in changes.moved:
        by_id[move.known.id] = replace(by_id[move.known.id], relative=move.relative)
    for settle in changes.settled:
        file = settle.known or known(settle.relative, settle.found, generation=settle.generation)
        by_id[file.id] = replace(
            file, relative=settle.relative, revision=settle.revision, present=True, **settle.found._asdict()
        )
    for back in changes.returned:
        by_id[back.known.id] = replace(back.known, present=True)
    for file in changes.removed:
        by_id[file.id] = replace(file, present=False)
    return list(by_id.values())


@given(histories())
def test_what_is_known_afterwards_is_what_is_on_disk(history: tuple[list[KnownFile], dict[str, Found]]):
    files, disk = history
    at = Index(files).at
    gone = [file for file in files if file.present and file.relative not in disk]
    changes = compare(at, disk, gone)
    after = applied(files, changes)
    there = {file.relative: file for file in after if file.present}
    assert there.keys() == disk.keys()
    assert len(there) == sum(file.present for file in after), "one present video at each path"
    assert all(same_file(there[path], found) for path, found in disk.items())
    assert not compare(Index(after).at, disk), "and there is nothing more to say"
    touched = [move.known.id for move in changes.moved] + [
        settle.known.id for settle in changes.settled if settle.known
    ]
    touched += [back.known.id for back in changes.returned] + [file.id for file in changes.removed]
    assert len(touched) == len(set(touched)), "each video has one fate"


@given(histories(), st.randoms(use_true_random=False))
def test_the_index_counts_what_is_there(history, random):
    files, _ = history
    index = Index(files)
    for file in random.sample(files, len(files)):
        index.drop(file)
        index.put(replace(file, present=random.random() < 0.5, relative=f"{random.randrange(4)}/x.mp4"))
    assert (
        index.present
        == len(list(index.there()))
        == len(index.below(map(str, range(4)))) + sum("/" not in file.relative for file in index.there())
    )
