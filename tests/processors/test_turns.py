"""Whose turn it is: against a model, for whatever order of events and limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.turns import GRACE, Turns, host_of
from streams.download_config import DownloadConfig
from streams.downloads import Download, folded
from streams.events import (
    DownloadCancelled,
    DownloadExpanded,
    DownloadFailed,
    DownloadPostponed,
    DownloadRefreshed,
    DownloadRequested,
    DownloadStarted,
    Event,
)
from streams.identity import download_subject
from tests.streams.test_downloads_fold import Recorded

AT = datetime(2026, 1, 2, tzinfo=UTC)


def seconds(count: float) -> timedelta:
    """A span."""
    return timedelta(seconds=count)


class Model:
    """Downloads as the log would have them, and the turns that follow them."""

    def __init__(self, **config: object) -> None:
        self.turns = Turns(DownloadConfig(**config), AT - timedelta(days=1))  # type: ignore[arg-type]
        self.all: dict[int, Download] = {}
        self.now = AT

    def tell(self, number: int, event: Event) -> None:
        """It happens now; lists are looked up where that is wanted."""
        before = self.all.get(number)
        told = Recorded(0, 1, "id", type(event).__name__, download_subject(number), before.ver + 1 if before else 1,
                        self.now, "test", None, "c", event)  # fmt: skip
        after = folded(before, told)
        assert after is not None
        self.all[number] = after
        wanted = self.turns.take_in(told, number)
        while wanted is not None:
            found = self.all[wanted]
            wanted = self.turns.put(found) if found.is_open else self.turns.put_list(found)

    def request(self, number: int, host: str = "a", parent: int | None = None) -> None:
        """A request becomes known."""
        url = f"http://{host}/{number}"
        self.tell(
            number, DownloadRequested(number=number, key=str(number), url=url, directory="/", options={}, parent=parent)
        )

    def start(self, number: int) -> None:
        """As the dispatcher does."""
        one = self.all[number]
        self.tell(number, DownloadStarted(take=one.take, attempt=one.attempt + 1, host=host_of(one.url), config={}))

    def end(self, number: int) -> None:
        """It fails, say."""
        one = self.all[number]
        self.tell(number, DownloadFailed(take=one.take, attempt=one.attempt, kind="gone", reason="gone"))

    def put_off(self, number: int, until: datetime) -> None:
        """It is tried again."""
        one = self.all[number]
        event = DownloadPostponed(take=one.take, attempt=one.attempt, kind="retry", reason="503", until=until)
        self.tell(number, event)

    def chosen(self) -> list[int]:
        """What would be started."""
        return [one.number for one in self.turns.choose(self.now).start]


def test_one_after_another_in_the_order_of_their_numbers() -> None:
    """Whichever became known first."""
    model = Model()
    for number in (3, 1, 2):
        model.request(number)
    seen = []
    for _ in range(3):
        [number] = model.chosen()
        model.start(number)
        assert model.chosen() == []
        model.end(number)
        seen.append(number)
    assert (seen, model.chosen()) == ([1, 2, 3], [])


def test_as_many_side_by_side_as_are_allowed_and_of_one_host() -> None:
    """What may not go holds back nobody else; a change of the configuration holds at once."""
    model = Model(concurrency=3, per_host=1)
    for number, host in enumerate("aabac", 1):
        model.request(number, host)
    assert model.chosen() == [1, 3, 5]
    model.turns.config = DownloadConfig(concurrency=5, per_host=2)
    assert model.chosen() == [1, 2, 3, 5]
    for number in (1, 2, 3, 5):
        model.start(number)
    assert model.chosen() == []
    model.end(2)
    assert model.chosen() == [4]


def test_a_pause_between_two_downloads_from_one_host() -> None:
    """Since the last one began, and since it ended; of others it says nothing."""
    model = Model(concurrency=9, sleep=10)
    for number, host in enumerate("aab", 1):
        model.request(number, host)
    assert model.chosen() == [1, 3]
    model.start(1)
    model.start(3)
    choice = model.turns.choose(model.now)
    assert (choice.start, choice.again) == ((), AT + seconds(10))
    model.now += seconds(4)
    model.end(1)
    model.now += seconds(9)
    assert model.chosen() == []
    assert model.turns.choose(model.now).again == AT + seconds(14)
    model.now += seconds(1)
    assert model.chosen() == [2]


def test_what_was_put_off_waits_and_then_goes_by_its_number() -> None:
    """Others go meanwhile."""
    model = Model()
    for number in (1, 2, 3):
        model.request(number)
    model.start(1)
    model.put_off(1, AT + seconds(60))
    assert model.chosen() == [2]
    model.start(2)
    model.end(2)
    model.now += seconds(60)
    assert model.chosen() == [1]
    model.start(1)
    model.now += seconds(60)  # another machine's clock
    model.put_off(1, model.now)
    model.now -= seconds(60)
    assert model.chosen() == [1]


def test_a_number_that_was_handed_out_is_waited_for_but_not_for_ever() -> None:
    """Its request may come; it holds back those above it only."""
    model = Model(concurrency=9)
    model.turns.handed_out(2, AT)
    for number in (1, 3):
        model.request(number)
    choice = model.turns.choose(model.now)
    assert ([one.number for one in choice.start], choice.again) == ([1], AT + seconds(GRACE))
    model.request(2)
    assert model.chosen() == [1, 2, 3]
    model.turns.handed_out(2, AT)  # heard of late: partitions are read one after the other
    model.request(5)
    model.turns.handed_out(5, AT)
    model.turns.handed_out(4, AT)
    assert model.chosen() == [1, 2, 3]
    model.now += seconds(GRACE)
    assert model.chosen() == [1, 2, 3, 5]


def test_entries_of_a_cancelled_list_are_named_also_those_of_lists_within_and_those_that_come_late() -> None:
    """But what a person queued again after that goes on."""
    model = Model(concurrency=9)
    model.request(1)
    model.start(1)
    for number in (2, 3, 4):
        model.request(number, parent=1)
    expanded = DownloadExpanded(take=1, title="", entries=3, more=False, limit=9, numbers=(2, 3, 4), skipped=())
    model.tell(1, expanded)
    model.start(2)
    model.start(3)
    model.request(5, parent=3)
    model.tell(3, replace(expanded, numbers=(5,)))
    model.end(4)
    assert model.turns.cancelled() == []
    model.now += seconds(1)
    model.tell(1, DownloadCancelled(take=1, reason="cancelled"))
    assert [one.number for one in model.turns.cancelled()] == [2, 5]
    for number in (2, 5):
        model.tell(number, DownloadCancelled(take=1, reason="with its list"))
    assert model.turns.cancelled() == []
    model.now += seconds(1)
    model.tell(4, DownloadRefreshed(take=2))
    model.request(6, parent=1)
    assert [one.number for one in model.turns.cancelled()] == [6]


def test_to_begin_anew_is_no_reason_to_hurry() -> None:
    """What is known beside the downloads is taken over."""
    model = Model(sleep=10)
    model.request(1)
    model.start(1)
    model.end(1)
    model.turns.handed_out(3, AT)
    fresh = Turns(model.turns.config, AT)
    for number in (2, 4):
        model.request(number)
        fresh.put(model.all[number])
    fresh.keep_to(model.turns)
    assert fresh.choose(AT + seconds(1)).start == ()
    assert [one.number for one in fresh.choose(AT + seconds(10)).start] == [2]


STEPS = st.lists(
    st.tuples(st.sampled_from(["request", "end", "put off", "refresh", "cancel", "wait", "hand out"]), st.integers(0, 99)),
    max_size=60,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4), st.integers(0, 2), st.sampled_from([0.0, 3.0]))
def test_no_limit_is_ever_passed_and_nothing_starves(
    steps: list[tuple[str, int]], concurrency: int, per_host: int, sleep: float
) -> None:
    """Whatever comes, ends, is put off, cancelled or queued again; in the end everything was done."""
    model = Model(concurrency=concurrency, per_host=per_host, sleep=sleep)
    visited: dict[str, datetime] = {}
    last = 0

    def under_way() -> list[Download]:
        return [one for one in model.all.values() if one.status == "Processing"]

    def dispatch() -> None:
        choice = model.turns.choose(model.now)
        numbers = [one.number for one in choice.start]
        due = [one.number for one in model.all.values() if _is_due(one)]
        assert numbers == sorted(numbers)
        assert set(numbers) <= set(due)
        if not (per_host or sleep or model.turns._missing):
            assert numbers == sorted(due)[: max(0, concurrency - len(under_way()))]
        for one in choice.start:
            assert not sleep or model.now >= visited.get(host_of(one.url), AT - timedelta(days=1)) + seconds(sleep)
            model.start(one.number)
            visited[host_of(one.url)] = model.now
        assert len(under_way()) <= concurrency
        if per_host:
            assert max(Counter(str(one.host) for one in under_way()).values(), default=0) <= per_host
        assert model.turns.processing == len(under_way())
        assert choice.again is None or choice.again > model.now

    def _is_due(one: Download) -> bool:
        return one.status == "Pending" and (one.until is None or one.until <= model.now)

    def end(one: Download) -> None:
        model.end(one.number)
        visited[str(one.host)] = model.now

    for step, value in steps:
        running, over = under_way(), [one for one in model.all.values() if not one.is_open]
        if step == "request":
            last += 1
            model.turns.handed_out(last, model.now)
            model.request(last, "abc"[value % 3])
        elif step == "hand out":
            last += 1
            model.turns.handed_out(last, model.now)
        elif step == "wait":
            model.now += seconds(value / 10)
        elif step == "refresh" and over:
            model.tell(over[value % len(over)].number, DownloadRefreshed(take=over[value % len(over)].take + 1))
            if (number := over[value % len(over)].number) not in model.turns.open:
                model.turns.put(model.all[number])
        elif running and step in {"end", "put off", "cancel"}:
            one = running[value % len(running)]
            if step == "end":
                end(one)
            elif step == "put off":
                model.put_off(one.number, model.now + seconds(value))
                visited[str(one.host)] = model.now
            else:
                model.tell(one.number, DownloadCancelled(take=one.take, reason="no"))
                visited[str(one.host)] = model.now
        dispatch()
    for _ in range(5 * len(model.all) + 5):
        for one in under_way():
            end(one)
        dispatch()
        if (again := model.turns.choose(model.now).again) is not None:
            model.now = max(model.now, again)
            dispatch()
    assert not [one for one in model.all.values() if one.is_open]
    assert model.turns.open == {}
    assert model.turns.processing == 0
