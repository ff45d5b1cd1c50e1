"""The sender's side: when a message may be offered, and when again.

The line is compared with a plain one that looks through lists; times are whole numbers there, so that edges are met.
"""

import copy
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simlib.sender import NO_RETRY, Due, Pace, Queue, Retry
from simlib.tool import Tool, tools

DAY, HOUR, MINUTE = 86_400.0, 3_600.0, 60.0
QUOTA = "mx/messages-per-day"


def drain(queue: Queue, until: float = math.inf) -> list[tuple[float, int]]:
    """Start everything the moment it may, with a connection always free: when, and which message."""
    started = []
    now = 0.0
    while (now := max(now, queue.ready_at())) <= until and now < math.inf:
        due = queue.next(now)
        if due is not None:
            started.append((now, due.message))
    return started


# Pace


def test_twenty_five_every_45_seconds_puts_50_into_one_minute() -> None:
    queue = Queue([0.0] * 100, range(100), pace=Pace.parse({"batch": 25, "wait": "45s"}))
    started = drain(queue)
    assert Counter(at for at, _ in started) == {0: 25, 45: 25, 90: 25, 135: 25}
    assert [message for _, message in started] == list(range(100))
    assert max(sum(begin <= at < begin + 60 for at, _ in started) for begin, _ in started) == 50


def test_an_even_pace_is_one_at_a_time() -> None:
    queue = Queue([0.0] * 5 + [20.0] * 2, range(7), pace=Pace.parse("30/min"))
    assert [at for at, _ in drain(queue)] == [0, 2, 4, 6, 8, 20, 22]


def test_a_batch_takes_what_waits_when_it_begins() -> None:
    """What comes during the wait goes with the next batch, though this one had room left."""
    queue = Queue([0, 0, 1, 2, 3, 30], range(6), pace=Pace(batch=3, wait=10))
    assert drain(queue) == [(0, 0), (0, 1), (10, 2), (10, 3), (10, 4), (30, 5)]


def test_the_wait_begins_when_the_first_of_a_batch_starts() -> None:
    queue = Queue([0, 0, 0], [7, 8, 9], pace=Pace(batch=2, wait=10))
    first = queue.next(4)
    assert first is not None
    assert (first.message, first.released_at) == (7, 0)
    second = queue.next(9)  # it had no connection before
    assert second is not None
    assert second.message == 8
    assert (queue.next(13.9), queue.ready_at()) == (None, 14)
    third = queue.next(14)
    assert third is not None
    assert (third.message, third.due_at, third.released_at) == (9, 0, 14)


def test_a_batch_that_has_not_started_holds_the_next_one_back() -> None:
    """One slow connection: the second batch is released at 10, but its first message starts at 25 only."""
    queue = Queue([0] * 6 + [22], range(7), pace=Pace(batch=2, wait=10))
    starts = [(at, due.message) for at in (0, 10, 25, 25, 25, 34) if (due := queue.next(at))]
    assert starts == [(0, 0), (10, 1), (25, 2), (25, 3)]
    assert queue.ready_at() == 35
    assert [due.message for due in (queue.next(35), queue.next(35)) if due] == [4, 5]


def test_each_sender_has_its_own_pace() -> None:
    queue = Queue([0, 0, 0, 1, 1], range(5), senders="aabbb", pace=Pace(batch=1, wait=10))
    assert drain(queue) == [(0, 0), (0, 2), (10, 1), (10, 3), (20, 4)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30/min", Pace(1, 2.0)),
        ("1/s", Pace(1, 1.0)),
        ("0.5/h", Pace(1, 7200.0)),
        ({"batch": 25, "wait": "45s"}, Pace(25, 45.0)),
        (Pace(3, 1.0), Pace(3, 1.0)),
    ],
)
def test_a_pace_is_a_batch_and_a_wait_or_an_even_rate(value: object, expected: Pace) -> None:
    assert Pace.parse(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("25/45s", "30/1min", "300/fortnight", "30", "fast", "", "-1/s", "0/s", "nan/s"),
        *(30, 30.0, None, True, [25, "45s"]),
        *({"batch": 25}, {"wait": "45s"}, {"batch": 25, "wait": "45s", "jitter": "1s"}, {}),
        *({"batch": 0, "wait": "45s"}, {"batch": -1, "wait": "45s"}, {"batch": 2.5, "wait": "45s"}),
        *({"batch": True, "wait": "45s"}, {"batch": "25", "wait": "45s"}),
        *(
            {"batch": 25, "wait": "0s"},
            {"batch": 25, "wait": 45},
            {"batch": 25, "wait": "45"},
            {"batch": 25, "wait": ""},
        ),
    ],
)
def test_what_is_no_pace_is_refused_in_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match="got") as caught:
        Pace.parse(value)
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(value, dict) or repr(value) in message


def test_an_ambiguous_pace_is_refused_with_both_ways_out() -> None:
    with pytest.raises(
        ValueError, match=r"ambiguous: write \{ batch = 25, wait = '45s' \} for batches, or an even rate"
    ):
        Pace.parse("25/45s")


@pytest.mark.parametrize("wait", [math.inf, math.nan, 0.0, -1.0])
def test_a_wait_is_longer_than_nothing_and_ends(wait: float) -> None:
    with pytest.raises(ValueError, match="wait must be longer than 0"):
        Pace(1, wait)


# Retries


def tries(schedule: Retry, takes: float = 0.0) -> list[float]:
    """When a message created at 0 is offered that is deferred every time, each attempt taking so long."""
    at: float | None = 0.0
    found: list[float] = []
    while at is not None and len(found) < 1000:
        found.append(at)
        at = schedule.again_at(len(found) - 1, created_at=0.0, now=at + takes)
    return found


def test_without_a_schedule_there_is_one_attempt() -> None:
    assert NO_RETRY.again_at(0, created_at=0, now=0) is None
    assert tries(Retry((), lifetime=DAY)) == [0]


def test_the_last_delay_repeats_until_the_lifetime_ends() -> None:
    assert tries(Retry((1.0, 2.0, 5.0), lifetime=18.0)) == [0, 1, 3, 8, 13, 18]
    assert tries(Retry((1.0, 2.0, 5.0), lifetime=17.9)) == [0, 1, 3, 8, 13]


def test_a_delay_counts_from_the_end_of_the_attempt_and_the_lifetime_from_creation() -> None:
    assert tries(Retry((10.0,), lifetime=34.0), takes=1.0) == [0, 11, 22, 33]
    assert Retry((10.0,), lifetime=34.0).again_at(0, created_at=100.0, now=125.0) is None
    assert Retry((10.0,), lifetime=34.0).again_at(0, created_at=100.0, now=124.0) == 134.0


def schedule_of(tool: str) -> Retry:
    return next(habit.schedule for habit in Tool.load(tool).habits if habit.schedule)


def test_postfix_waits_as_long_as_a_message_has_been_in_the_queue() -> None:
    """At least 300 s, at most 4,000 s, for five days (its manual, not our list of delays)."""
    at, expected = 0.0, [0.0]
    while at + min(4000, max(300, at)) <= 5 * DAY:
        at += min(4000, max(300, at))
        expected.append(at)
    assert tries(schedule_of("postfix")) == expected


def test_exim_goes_on_every_quarter_then_ever_longer_then_every_six_hours() -> None:
    """F,2h,15m; G,16h,1h,1.5; F,4d,6h: which rule applies depends on the time since the first failure."""
    at, expected, wait = 0.0, [0.0], HOUR
    while True:
        if at < 2 * HOUR:
            delay = 15 * MINUTE
        elif at < 16 * HOUR:
            delay, wait = wait, wait * 1.5
        else:
            delay = 6 * HOUR
        if at + math.floor(delay) > 4 * DAY:
            break
        at += math.floor(delay)
        expected.append(at)
    assert tries(schedule_of("exim")) == expected


@pytest.mark.parametrize(
    ("tool", "first", "most", "lifetime"), [("kumomta", 1200, math.inf, 7), ("momentum", 1200, 43_200, 1)]
)
def test_kumomta_and_momentum_double_their_wait(tool: str, first: float, most: float, lifetime: float) -> None:
    at, wait, expected = 0.0, first, [0.0]
    while at + wait <= lifetime * DAY:
        at += wait
        expected.append(at)
        wait = min(2 * wait, most)
    assert tries(schedule_of(tool)) == expected


def test_every_schedule_in_the_facts_ends() -> None:
    for name in tools():
        for habit in Tool.load(name).habits:
            if habit.schedule is not None and habit.schedule.delays:
                assert 1 < len(tries(habit.schedule)) < 1000
                assert all(delay > 0 for delay in habit.schedule.delays)


def test_a_4yz_is_retried_and_a_5yz_is_final_under_every_schedule() -> None:
    for code, final in ((250, True), (550, True), (554, True), (421, False), (451, False), (0, False)):
        queue = Queue([0], [7], retry=Retry((300,), lifetime=1000))
        due = queue.next(0)
        assert due is not None
        assert queue.settle(due, code, "mx/any", created_at=0, now=1) == final
        assert queue.ready_at() == (math.inf if final else 301)
        if not final:
            assert queue.next(300.9) is None
            assert queue.next(301) == Due(7, 1, 301, 301)


def test_a_deferred_message_is_given_up_when_the_schedule_ends() -> None:
    for retry, final in ((NO_RETRY, True), (Retry((300,), lifetime=299), True), (Retry((300,), lifetime=301), False)):
        queue = Queue([0], [7], retry=retry)
        due = queue.next(0)
        assert due is not None
        assert queue.settle(due, 451, "", created_at=0, now=1) == final


def test_a_retry_joins_the_line_when_it_is_due() -> None:
    queue = Queue([0, 5, 9, 10, 11], range(5), retry=Retry((10,)))
    due = queue.next(0)
    assert due is not None
    queue.settle(due, 451, "", created_at=0, now=0)
    order = [queue.next(20) for _ in range(5)]
    assert [found.message for found in order if found] == [1, 2, 0, 3, 4]


@pytest.mark.parametrize("pace", [None, Pace(batch=1, wait=1)])
def test_each_of_several_retries_joins_when_it_is_due(pace: Pace | None) -> None:
    queue = Queue([0, 5], [7, 8], retry=Retry((10,)), pace=pace)
    for now in (0.0, 5.0):
        due = queue.next(now)
        assert due is not None
        queue.settle(due, 451, "", created_at=now, now=now)
    for now, message in ((10.0, 7), (15.0, 8)):
        assert queue.ready_at() == now
        assert queue.next(now) == Due(message, 1, now, now)
        assert queue.next(now) is None
    assert queue.ready_at() == math.inf


# A quota that the channel knows


def quota_queue(**options: Any) -> Queue:
    return Queue([0, 0, 0, 5], range(4), retry=Retry((60, 120)), heeds=frozenset([QUOTA]), **options)


def refuse(queue: Queue, due: Due | None, now: float, limit: str = QUOTA, code: int = 550) -> bool:
    assert due is not None
    return queue.settle(due, code, limit, created_at=0, now=now)


def test_after_a_refusal_by_a_quota_nothing_is_offered_until_the_message_is_tried_again() -> None:
    queue = quota_queue()
    assert not refuse(queue, queue.next(0), 1)
    assert (queue.ready_at(), queue.next(60.9)) == (61, None)
    assert queue.next(61) == Due(0, 1, 61, 61)
    assert [due.message for due in (queue.next(61), queue.next(61), queue.next(61)) if due] == [1, 2, 3]


def test_refused_by_a_quota_again_it_waits_by_the_schedule() -> None:
    queue = quota_queue()
    refuse(queue, queue.next(0), 0)
    refuse(queue, queue.next(60), 60)
    assert (queue.next(179), queue.ready_at()) == (None, 180)
    assert queue.next(180) == Due(0, 2, 180, 180)


def test_several_refused_by_a_quota_come_back_in_their_order() -> None:
    for later in (0, 7):
        queue = quota_queue()
        first, second = queue.next(0), queue.next(0)
        refuse(queue, first, 0)
        refuse(queue, second, later)
        assert queue.ready_at() == 60 + later
        again = [queue.next(60 + later) for _ in range(4)]
        assert [due.message for due in again if due] == [0, 1, 2, 3]


def test_with_a_pace_the_refused_message_goes_first_too_and_begins_the_wait() -> None:
    queue = quota_queue(pace=Pace(batch=2, wait=10))
    first, second = queue.next(0), queue.next(0)
    assert (first, second) == (Due(0, 0, 0, 0), Due(1, 0, 0, 0))
    refuse(queue, first, 0)
    assert [(at, message) for at, message in drain(queue, until=200)] == [(60, 0), (70, 2), (70, 3)]


def test_with_a_pace_a_refused_message_takes_no_place_in_a_batch_that_is_about_to_begin() -> None:
    queue = Queue([0] * 6, range(6), retry=Retry((60,)), heeds=frozenset([QUOTA]), pace=Pace(batch=2, wait=10))
    first = queue.next(0)
    assert queue.next(10) == Due(1, 0, 0, 0)  # the second batch is released with it
    refuse(queue, first, 11)
    starts = [(at, due.message) for at in (71, 80, 80, 85) if (due := queue.next(at))]
    assert starts == [(71, 0), (80, 2), (80, 3)]
    assert queue.ready_at() == 90


def test_the_longest_pause_counts() -> None:
    """Refused for the second time the first message waits longer than the other, refused after it for the first."""
    queue = quota_queue()
    first = queue.next(0)
    refuse(queue, first, 0)
    again, other = queue.next(60), queue.next(60)
    refuse(queue, again, 60)
    refuse(queue, other, 70)
    assert (queue.next(130), queue.ready_at()) == (None, 180)


def test_only_a_channel_that_knows_the_quota_heeds_it() -> None:
    queue = quota_queue()
    assert refuse(queue, queue.next(0), 0, limit="mx/message-size")
    assert queue.next(0) == Due(1, 0, 0, 0)
    unaware = Queue([0, 0], range(2), retry=Retry((60,)))
    assert refuse(unaware, unaware.next(0), 0)
    assert unaware.next(0) == Due(1, 0, 0, 0)


def test_a_deferral_by_a_quota_stops_nobody_else() -> None:
    queue = quota_queue()
    assert not refuse(queue, queue.next(0), 0, code=451)
    assert queue.next(0) == Due(1, 0, 0, 0)


def test_a_quota_without_a_schedule_is_final_and_stops_nobody() -> None:
    queue = Queue([0, 0], range(2), heeds=frozenset([QUOTA]))
    assert refuse(queue, queue.next(0), 0)
    assert queue.next(0) == Due(1, 0, 0, 0)


# Sessions


def test_a_session_is_full_after_so_many_messages() -> None:
    assert [Queue([], [], messages_per_session=3).session_is_full(count) for count in (2, 3, 4)] == [False, True, True]
    assert not Queue([], []).session_is_full(1_000_000)


def test_an_empty_line_has_nothing_ever() -> None:
    queue = Queue([], [], pace=Pace(1, 1.0))
    assert (queue.next(1e9), queue.ready_at()) == (None, math.inf)


# Against a plain line


@dataclass
class PlainLine:
    """The same rules in lists, for one sender: what is due joins when somebody asks, and batches form then."""

    arrivals: list[tuple[int, int]]
    delays: tuple[int, ...]
    lifetime: float
    batch: int | None = None
    wait: int = 0
    retries: list[tuple[int, int, int, bool]] = field(default_factory=list)  # due, message, retry, after a quota
    waiting: list[Due] = field(default_factory=list)
    line: list[Due] = field(default_factory=list)
    next_batch_at: float = -math.inf
    leader: int | None = None
    paused_until: float = -math.inf

    def next(self, now: int) -> Due | None:
        if now < self.paused_until:
            return None
        joining = [(at, 1, Due(message, 0, at, at), False) for at, message in self.arrivals if at <= now]
        joining += [(at, 0, Due(message, retry, at, at), q) for at, message, retry, q in self.retries if at <= now]
        self.arrivals = [arrival for arrival in self.arrivals if arrival[0] > now]
        self.retries = [retry for retry in self.retries if retry[0] > now]
        joining.sort(key=lambda entry: entry[:2])
        first = [due for *_, due, quota in joining if quota]
        self.waiting += [due for *_, due, quota in joining if not quota]
        self.line = first + self.line
        if self.batch is None:
            self.line += self.waiting
            self.waiting = []
        else:
            if first and self.leader is None:
                self.leader = first[0].message
            if self.leader is None and now >= self.next_batch_at and self.waiting:
                batch, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
                self.line += [due._replace(released_at=max(due.due_at, self.next_batch_at)) for due in batch]
                self.leader = batch[0].message
        if not self.line:
            return None
        due = self.line.pop(0)
        if due.message == self.leader:
            self.leader = None
            self.next_batch_at = now + self.wait
        return due

    def settle(self, due: Due, code: int, limit: str, created_at: int, now: int) -> bool:
        quota = code >= 500 and limit == QUOTA
        if 200 <= code < 300 or (code >= 500 and not quota) or not self.delays:
            return True
        again_at = now + self.delays[min(due.retry, len(self.delays) - 1)]
        if again_at > created_at + self.lifetime:
            return True
        self.retries.append((again_at, due.message, due.retry + 1, quota))
        if quota:
            self.paused_until = max(self.paused_until, again_at)
        return False


PAUSES = st.sampled_from([0, 0, 3, 6, 10])
ENDS = st.sampled_from([(250, ""), (451, "mx/q"), (421, ""), (0, ""), (550, QUOTA), (550, "mx/size")])
STEPS = st.lists(st.tuples(PAUSES, st.one_of(st.none(), ENDS), st.integers(0, 9)), max_size=40)


@settings(max_examples=200)
@given(
    st.lists(PAUSES, max_size=12),
    STEPS,
    st.sampled_from([(None, 0), (1, 10), (2, 10), (3, 16)]),
    st.sampled_from([(), (6,), (3, 10)]),
    st.sampled_from([20.0, math.inf]),
)
def test_a_line_does_what_a_plain_one_does_and_knows_when(
    gaps: list[int],
    steps: list[tuple[int, tuple[int, str] | None, int]],
    pace: tuple[int | None, int],
    delays: tuple[int, ...],
    lifetime: float,
) -> None:
    """Ask for the next one or settle one under way, at random; `ready_at` leads to the first moment that has one."""
    due_at = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    batch, wait = pace
    queue = Queue(
        due_at,
        range(len(gaps)),
        pace=None if batch is None else Pace(batch, wait),
        retry=Retry(delays, lifetime),
        heeds=frozenset([QUOTA]),
    )
    plain = PlainLine(list(zip(due_at, range(len(gaps)), strict=True)), delays, lifetime, batch, wait)
    under_way: list[Due] = []
    now = 0
    for pause, end, which in steps:
        now += pause
        if end is None or not under_way:
            due = queue.next(now)
            assert due == plain.next(now)
            if due is not None:
                under_way.append(due)
        else:
            due = under_way.pop(which % len(under_way))
            code, limit = end
            final = queue.settle(due, code, limit, due_at[due.message], now)
            assert final == plain.settle(due, code, limit, due_at[due.message], now)
        assert first_moment(queue, now) == next(
            (at for at in range(now, now + 60) if copy.deepcopy(plain).next(at) is not None), math.inf
        )


def first_moment(queue: Queue, now: float) -> float:
    """When `next` has a message, found by asking at `ready_at` only; each fruitless ask leads to a later moment."""
    queue = copy.deepcopy(queue)
    at = max(now, queue.ready_at())
    while at < math.inf and queue.next(at) is None:
        later = queue.ready_at()
        assert later > at
        at = later
    return at


@given(
    st.lists(st.tuples(PAUSES, st.sampled_from("abc")), max_size=25),
    st.sampled_from([Pace(1, 10), Pace(2, 10), Pace(3, 16)]),
)
def test_while_connections_are_free_senders_do_not_disturb_each_other(
    arrivals: list[tuple[int, str]], pace: Pace
) -> None:
    due_at = [sum(gap for gap, _ in arrivals[: number + 1]) for number in range(len(arrivals))]
    senders = [sender for _, sender in arrivals]
    together = drain(Queue(due_at, range(len(arrivals)), senders, pace))
    assert sorted(message for _, message in together) == list(range(len(arrivals)))
    for sender in "abc":
        mine = [number for number, owner in enumerate(senders) if owner == sender]
        alone = drain(Queue([due_at[number] for number in mine], mine, None, pace))
        assert [start for start in together if senders[start[1]] == sender] == alone


@given(st.lists(PAUSES, min_size=1, max_size=40), st.integers(1, 4), st.sampled_from([3, 6, 10, 16]))
def test_no_more_than_a_batch_starts_before_its_wait_is_over(gaps: list[int], batch: int, wait: int) -> None:
    """With a connection always free: at most a batch in any wait, and nothing waits without need."""
    due_at = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    started = drain(Queue(due_at, range(len(gaps)), pace=Pace(batch, wait)))
    assert [message for _, message in started] == list(range(len(gaps)))
    starts = [at for at, _ in started]
    for begin in starts:
        assert sum(begin <= at < begin + wait for at in starts) <= batch
    for (at, message), due in zip(started, due_at, strict=True):
        # it starts when due, or a whole wait after the batch before it began
        assert at == due or any(at == before + wait for before in starts[:message])
