"""How a limit counts, stated as exactly when: it lets through exactly when a count by hand leaves room.

Times are drawn on a grid of tenths of a second, so that events meet the edges of the windows, and the counts by hand
are in whole tenths. The second half holds the same rules against pyrate-limiter, which isn't ours.
"""

import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrate_limiter import InMemoryBucket, Rate, RateItem
from pyrate_limiter.abstracts.algorithm import Decision, SlidingWindowLog
from pyrate_limiter.abstracts.algorithm import FixedWindow as TheirFixedWindow
from pyrate_limiter.abstracts.algorithm import TokenBucket as TheirTokenBucket

from simlib.provider import Limit
from simlib.windows import INSTANT, FixedWindow, InUse, SlidingWindow, TokenBucket, Window, rescale, window_of

TENTHS = 10  # a period of one second, in tenths
Log = list[tuple[int, int]]
"""What was taken: when, in tenths, and how much."""

PAUSES = st.sampled_from([0, 3, 6, 10])
AMOUNTS = st.integers(1, 3)
SCHEDULES = st.lists(st.tuples(PAUSES, AMOUNTS), max_size=30)
LIMITS = st.integers(1, 5)


def seconds(tenths: int) -> float:
    return tenths / 10


def used_sliding(log: Log, now: int) -> int:
    """What was taken less than a period ago: at t + period exactly it is free again."""
    return sum(amount for at, amount in log if at > now - TENTHS)


def used_fixed(log: Log, now: int, offset: int) -> int:
    """What was taken in the window of `now`, where windows start whenever time + offset is a whole period."""
    return sum(amount for at, amount in log if (at + offset) // TENTHS == (now + offset) // TENTHS)


def used_first_event(log: Log, now: int) -> int:
    """What was taken in the window of `now`, where the first event after a window starts the next one."""
    start, used = -math.inf, 0
    for at, amount in log:
        if at >= start + TENTHS:
            start, used = at, 0
        used += amount
    return used if now < start + TENTHS else 0


def tokens_left(log: Log, now: int, each: int, burst: int) -> Fraction:
    """Tokens in the bucket: one comes every `each` tenths, and what doesn't fit is lost."""
    tokens, last = Fraction(burst), 0
    for at, amount in log:
        tokens = min(Fraction(burst), tokens + Fraction(at - last, each)) - amount
        last = at
    return min(Fraction(burst), tokens + Fraction(now - last, each))


def assert_fits_exactly_when(
    schedule: list[tuple[int, int]], window: Window, has_room: Callable[[Log, int, int], bool], attempts: bool
) -> None:
    """Offer a schedule, and compare each answer with the count by hand."""
    log: Log = []
    now = 0
    for pause, amount in schedule:
        now += pause
        expected = has_room(log, now, amount)
        assert window.fits(amount, seconds(now)) == expected
        assert (window.wait(amount, seconds(now)) == 0) == expected
        if expected or attempts:
            log.append((now, amount))
            window.take(amount, seconds(now))


def assert_let_through_exactly_when(
    schedule: list[tuple[int, int]], window: Window, limit: int, has_room: Callable[[Log, int, int], bool]
) -> None:
    """Let all wait their turn: each is let through at the first moment with room, and not before the last one."""
    log: Log = []
    now = last = 0
    for pause, amount in schedule:
        now += pause
        wait = window.wait(amount, seconds(now))
        if amount > limit:
            assert wait == math.inf
            continue
        last = max(now, last)
        while not has_room(log, last, amount):
            last += 1
        assert wait == pytest.approx(seconds(last - now), abs=INSTANT)
        log.append((last, amount))
        window.take(amount, seconds(now) + wait)


def assert_forgets_exactly_what_is_given_back(
    operations: list[tuple[int, int, bool]], window: Window, has_room: Callable[[Log, int, int], bool]
) -> None:
    """Take, give some of it back later, and compare with a log in which it never was."""
    log: Log = []
    now = 0
    for pause, amount, gives_back in operations:
        now += pause
        if gives_back and log:
            at, size = log.pop(amount % len(log))
            window.give_back(size, seconds(at))
        elif has_room(log, now, amount):
            log.append((now, amount))
            window.take(amount, seconds(now))
        for more in (1, 2, 3):
            assert window.fits(more, seconds(now)) == has_room(log, now, more)


# What fits


@given(SCHEDULES, LIMITS, st.booleans())
def test_a_sliding_window_lets_through_exactly_what_the_last_period_leaves_room_for(
    schedule: list[tuple[int, int]], limit: int, attempts: bool
) -> None:
    assert_fits_exactly_when(
        schedule,
        SlidingWindow(limit, 1.0),
        lambda log, now, amount: used_sliding(log, now) + amount <= limit,
        attempts,
    )


@given(SCHEDULES, LIMITS, st.booleans(), st.sampled_from([0, 4, 7]))
def test_a_fixed_window_lets_through_exactly_what_its_own_window_leaves_room_for(
    schedule: list[tuple[int, int]], limit: int, attempts: bool, offset: int
) -> None:
    assert_fits_exactly_when(
        schedule,
        FixedWindow(limit, 1.0, seconds(offset)),
        lambda log, now, amount: used_fixed(log, now, offset) + amount <= limit,
        attempts,
    )


@given(SCHEDULES, LIMITS, st.booleans())
def test_a_window_that_starts_with_the_first_event_lets_through_exactly_what_it_leaves_room_for(
    schedule: list[tuple[int, int]], limit: int, attempts: bool
) -> None:
    assert_fits_exactly_when(
        schedule,
        FixedWindow(limit, 1.0, None),
        lambda log, now, amount: used_first_event(log, now) + amount <= limit,
        attempts,
    )


@given(st.lists(st.tuples(PAUSES, st.integers(0, 3)), max_size=30), LIMITS)
def test_an_event_that_counts_elsewhere_starts_a_window_all_the_same(
    schedule: list[tuple[int, int]], limit: int
) -> None:
    window = FixedWindow(limit, 1.0, None)
    log: Log = []
    now = 0
    for pause, amount in schedule:
        now += pause
        log.append((now, amount))
        window.take(amount, seconds(now))
        for more in (1, 2, 3):
            assert window.fits(more, seconds(now)) == (used_first_event(log, now) + more <= limit)


def test_windows_that_are_only_started_do_not_pile_up() -> None:
    window = FixedWindow(1, 60, None)
    for minute in range(100):
        window.take(0, at=60 * minute)
    assert window.windows == [[60 * 99, 0]]


@given(SCHEDULES, st.sampled_from([1, 2, 5, 10]), st.integers(1, 4), st.booleans())
def test_a_token_bucket_lets_through_exactly_what_it_has_tokens_for(
    schedule: list[tuple[int, int]], rate: int, burst: int, attempts: bool
) -> None:
    assert_fits_exactly_when(
        schedule,
        TokenBucket(rate, 1.0, burst),
        lambda log, now, amount: tokens_left(log, now, TENTHS // rate, burst) >= amount,
        attempts,
    )


@given(st.lists(st.tuples(PAUSES, AMOUNTS, st.sampled_from([3, 6, 10, 13])), max_size=30), LIMITS)
def test_what_is_in_use_leaves_room_exactly_until_it_ends(schedule: list[tuple[int, int, int]], limit: int) -> None:
    window = InUse(limit)
    taken: list[tuple[int, int]] = []  # until when, how much
    now = 0
    for pause, amount, lasts in schedule:
        now += pause
        in_use = sum(size for until, size in taken if until > now)
        expected = in_use + amount <= limit
        assert window.fits(amount, seconds(now)) == expected
        assert window.wait(amount, seconds(now)) == (0 if expected else math.inf)
        if expected:
            window.take(amount, seconds(now))
            window.give_back(amount, seconds(now + lasts))
            taken.append((now + lasts, amount))


@pytest.mark.parametrize("early", [INSTANT / 2, 0.0])
def test_a_period_is_over_within_an_instant_of_its_end(early: float) -> None:
    for window in (SlidingWindow(1, 60), FixedWindow(1, 60, 0), FixedWindow(1, 60, None), TokenBucket(1, 60, 1)):
        window.take(1, at=0.0)
        assert not window.fits(1, now=60 - 10 * INSTANT)
        assert window.fits(1, now=60 - early)


# How long what doesn't fit waits


@given(SCHEDULES, LIMITS)
def test_a_hold_under_a_sliding_window_ends_at_the_first_moment_with_room(
    schedule: list[tuple[int, int]], limit: int
) -> None:
    assert_let_through_exactly_when(
        schedule,
        SlidingWindow(limit, 1.0),
        limit,
        lambda log, now, amount: used_sliding(log, now) + amount <= limit,
    )


@given(SCHEDULES, LIMITS, st.sampled_from([0, 4, 7]))
def test_a_hold_under_a_fixed_window_ends_at_the_first_moment_with_room(
    schedule: list[tuple[int, int]], limit: int, offset: int
) -> None:
    assert_let_through_exactly_when(
        schedule,
        FixedWindow(limit, 1.0, seconds(offset), queues=True),
        limit,
        lambda log, now, amount: used_fixed(log, now, offset) + amount <= limit,
    )


@given(SCHEDULES, LIMITS)
def test_a_hold_under_a_window_of_the_first_event_ends_at_the_first_moment_with_room(
    schedule: list[tuple[int, int]], limit: int
) -> None:
    assert_let_through_exactly_when(
        schedule,
        FixedWindow(limit, 1.0, None, queues=True),
        limit,
        lambda log, now, amount: used_first_event(log, now) + amount <= limit,
    )


@given(SCHEDULES, st.sampled_from([1, 2, 5, 10]), st.integers(1, 4))
def test_a_hold_under_a_token_bucket_ends_when_the_tokens_are_there(
    schedule: list[tuple[int, int]], rate: int, burst: int
) -> None:
    assert_let_through_exactly_when(
        schedule,
        TokenBucket(rate, 1.0, burst),
        burst,
        lambda log, now, amount: tokens_left(log, now, TENTHS // rate, burst) >= amount,
    )


@given(SCHEDULES, LIMITS)
def test_a_refusing_window_says_when_there_will_be_room(schedule: list[tuple[int, int]], limit: int) -> None:
    """What is refused isn't taken, so the wait is until the first moment at which it would fit."""
    for window, used in (
        (SlidingWindow(limit, 1.0), used_sliding),
        (FixedWindow(limit, 1.0, 0.0), lambda log, now: used_fixed(log, now, 0)),
        (FixedWindow(limit, 1.0, None), used_first_event),
    ):
        log: Log = []
        now = 0
        for pause, amount in schedule:
            now += pause
            wait = window.wait(amount, seconds(now))
            fits_at = next((t for t in range(now, now + 2 * TENTHS) if used(log, t) + amount <= limit), math.inf)
            assert wait == pytest.approx(fits_at / 10 - seconds(now), abs=INSTANT)
            if wait == 0:
                log.append((now, amount))
                window.take(amount, seconds(now))


@pytest.mark.parametrize("offset", [0.0, 30_600.0, None])
def test_rounding_moves_nothing_into_the_window_before(offset: float | None) -> None:
    """Of 30 a minute, held ones included, exactly 30 leave in each minute, however crooked the times."""
    rng = random.Random(20261201)
    for _ in range(200):
        window = FixedWindow(30, 60.0, offset, queues=True)
        now = rng.uniform(0, 1e6)
        leaves = []
        for _ in range(100):
            now += rng.choice([0.0, 0.1, 0.3, rng.random()])
            at = now + window.wait(1, now)
            window.take(1, at)
            leaves.append(at)
        begin = leaves[0] if offset is None else -offset
        minutes = [math.floor((at - begin + INSTANT) / 60) for at in leaves]
        counts = [minutes.count(minute) for minute in range(minutes[0], minutes[-1] + 1)]
        assert sum(counts) == len(leaves)
        assert max(counts) <= 30
        assert leaves == sorted(leaves)
        if offset is not None:
            assert counts[1:-1] == [30] * len(counts[1:-1])


# What is given back

OPERATIONS = st.lists(st.tuples(PAUSES, AMOUNTS, st.booleans()), max_size=30)


@given(OPERATIONS, LIMITS)
def test_a_sliding_window_forgets_exactly_what_is_given_back(
    operations: list[tuple[int, int, bool]], limit: int
) -> None:
    assert_forgets_exactly_what_is_given_back(
        operations, SlidingWindow(limit, 1.0), lambda log, now, amount: used_sliding(log, now) + amount <= limit
    )


@given(OPERATIONS, LIMITS, st.sampled_from([0, 4]))
def test_a_fixed_window_forgets_exactly_what_is_given_back(
    operations: list[tuple[int, int, bool]], limit: int, offset: int
) -> None:
    assert_forgets_exactly_what_is_given_back(
        operations,
        FixedWindow(limit, 1.0, seconds(offset)),
        lambda log, now, amount: used_fixed(log, now, offset) + amount <= limit,
    )


@given(OPERATIONS, st.sampled_from([1, 2, 5, 10]), st.integers(1, 4))
def test_a_token_bucket_forgets_exactly_what_is_given_back(
    operations: list[tuple[int, int, bool]], rate: int, burst: int
) -> None:
    assert_forgets_exactly_what_is_given_back(
        operations,
        TokenBucket(rate, 1.0, burst),
        lambda log, now, amount: tokens_left(log, now, TENTHS // rate, burst) >= amount,
    )


def test_a_token_that_has_trickled_in_again_cannot_be_given_back() -> None:
    bucket = TokenBucket(limit=60, period=60, burst=2)
    bucket.take(1, at=0)
    bucket.take(2, at=10)
    bucket.give_back(1, at=0)
    assert bucket.wait(1, now=10) == 1


def test_a_window_of_the_first_event_keeps_its_start_when_that_event_is_given_back() -> None:
    window = FixedWindow(1, 60, None)
    window.take(1, at=0)
    window.give_back(1, at=0)
    window.take(1, at=50)
    assert not window.fits(1, now=59)
    assert window.fits(1, now=60)


def test_giving_back_what_no_longer_counts_changes_nothing() -> None:
    for window in (SlidingWindow(1, 60), FixedWindow(1, 60, 0), TokenBucket(1, 60, 1)):
        window.take(1, at=0)
        assert window.fits(1, now=60)
        window.take(1, at=60)
        window.give_back(1, at=0)
        assert not window.fits(1, now=60)


def test_what_is_taken_ahead_by_another_limit_leaves_the_window_of_now_alone() -> None:
    """A message that another limit holds takes its place in the window in which it will be let through."""
    window = FixedWindow(1, 60, 0)
    window.take(1, at=70)
    assert window.fits(1, now=50)
    window.take(1, at=50)
    assert not window.fits(1, now=51)
    assert not window.fits(1, now=70)
    assert window.fits(1, now=120)


@given(st.lists(st.tuples(PAUSES, st.sampled_from([0, 4, 9, 25]), AMOUNTS), max_size=20), LIMITS)
def test_a_sliding_window_keeps_its_log_in_order_whatever_another_limit_holds(
    takes: list[tuple[int, int, int]], limit: int
) -> None:
    """What is taken ahead counts until then and for a period after it, and what fits in front of it may pass."""
    window = SlidingWindow(limit, 1.0)
    log: Log = []
    now = 0
    for pause, ahead, amount in takes:
        now += pause
        expected = used_sliding(log, now) + amount <= limit
        assert window.fits(amount, seconds(now)) == expected
        if expected:
            log.append((now + ahead, amount))
            window.take(amount, seconds(now + ahead))
    for later in range(now, now + 4 * TENTHS):
        assert window.fits(limit, seconds(later)) == (used_sliding(log, later) == 0)


def test_what_is_taken_within_an_instant_of_a_window_belongs_to_it() -> None:
    window = FixedWindow(1, 60, offset=0)
    window.take(1, at=60 - INSTANT / 2)
    assert [window.fits(1, now) for now in (61, 119, 120)] == [False, False, True]


def test_more_than_a_bucket_holds_never_fits() -> None:
    bucket = TokenBucket(limit=60, period=60, burst=2.5)
    assert [bucket.wait(amount, now=0) for amount in (2, 2.5, 3)] == [0, 0, math.inf]


# Which window a limit asks for


def limit_of(**fields: object) -> Limit:
    return Limit.model_validate(
        {"id": "some", "count": "messages", "per": "account", "on_excess": "defer", "at": "EOD", **fields}
    )


@pytest.mark.parametrize(
    ("anchor", "next_window_in"), [("clock", 3600 - 1800), ("utc_day", 3600 - 600), ("first_event", 3600)]
)
def test_a_fixed_window_starts_where_its_anchor_says(anchor: str, next_window_in: float) -> None:
    limit = limit_of(limit="1/h", window="fixed", anchor=anchor)
    window = window_of(limit, since_midnight=5 * 3600 + 1800, since_utc_midnight=20 * 3600 + 600)
    window.take(1, at=0)
    assert window.wait(1, now=0) == next_window_in


def test_each_kind_of_limit_gets_its_window() -> None:
    sliding = window_of(limit_of(limit="2/min", window="sliding"), 0, 0)
    bucket = window_of(limit_of(limit="2/min", window="token_bucket", burst=1), 0, 0)
    in_use = window_of(limit_of(limit=2, count="transactions"), 0, 0)
    assert [type(window) for window in (sliding, bucket, in_use)] == [SlidingWindow, TokenBucket, InUse]
    for window in (sliding, in_use):
        window.take(2, at=0)
        assert not window.fits(1, now=59)
    bucket.take(1, at=0)
    assert bucket.wait(1, now=0) == 30


@pytest.mark.parametrize(("holds", "expected"), [("hold_reply", [0, 30, 90]), ("defer", [0, 30, 30])])
def test_only_what_is_held_queues(holds: str, expected: list[float]) -> None:
    window = window_of(limit_of(limit="1/min", window="fixed", anchor="clock", on_excess=holds), 30, 0)
    waits = []
    for _ in range(3):
        wait = window.wait(1, now=0)
        waits.append(wait)
        if wait == 0 or holds == "hold_reply":
            window.take(1, at=wait)
    assert waits == expected


def test_a_limit_that_is_off_has_no_window() -> None:
    with pytest.raises(ValueError, match="limit must not be off, got some"):
        window_of(limit_of(limit="off", window="sliding"), 0, 0)


# Against pyrate-limiter, which isn't ours: whole milliseconds, weights, and its own retry-after

MILLISECONDS = st.lists(
    st.tuples(st.sampled_from([0, 1, 7, 249, 250, 251, 999, 1000, 1001]), st.integers(1, 4)), min_size=5, max_size=60
)


def assert_agrees(schedule: list[tuple[int, int]], ours: Window, theirs: InMemoryBucket, offset: int = 0) -> None:
    limit = theirs.rates[0].limit
    now = 0
    for pause, amount in schedule:
        now += pause
        decision = theirs.put_decision(RateItem("message", now + offset, amount))
        assert isinstance(decision, Decision)
        wait = ours.wait(amount, now / 1000)
        assert ours.fits(amount, now / 1000) == decision.allowed
        if decision.allowed:
            ours.take(amount, now / 1000)
        elif amount > limit:
            assert wait == math.inf
        else:
            assert wait * 1000 == pytest.approx(decision.retry_after_ms, abs=INSTANT * 1000)


@given(MILLISECONDS, st.integers(1, 9))
def test_the_sliding_window_agrees_with_pyrate_limiter(schedule: list[tuple[int, int]], limit: int) -> None:
    # its window includes both ends, ours is half open: 999 ms of theirs, in whole milliseconds, are our 1 s
    assert_agrees(schedule, SlidingWindow(limit, 1.0), InMemoryBucket([Rate(limit, 999)], SlidingWindowLog()))


@given(MILLISECONDS, st.integers(1, 9), st.sampled_from([0, 1, 500]))
def test_the_fixed_window_agrees_with_pyrate_limiter(schedule: list[tuple[int, int]], limit: int, offset: int) -> None:
    theirs = InMemoryBucket([Rate(limit, 1000)], TheirFixedWindow())
    assert_agrees(schedule, FixedWindow(limit, 1.0, offset / 1000), theirs, offset)


@given(MILLISECONDS, st.sampled_from([1, 2, 4, 5, 8, 10, 20, 40]), st.integers(1, 9))
def test_the_token_bucket_agrees_with_pyrate_limiter(schedule: list[tuple[int, int]], limit: int, burst: int) -> None:
    ours, theirs, rates = TokenBucket(limit, 1.0, burst), TheirTokenBucket(), [Rate(limit, 1000, burst)]
    state, now = theirs.initial(rates), 0
    for pause, amount in schedule:
        now += pause
        state, decision = theirs.step(rates, state, now, amount)
        wait = ours.wait(amount, now / 1000)
        assert (wait == 0) == decision.allowed
        if decision.allowed:
            ours.take(amount, now / 1000)
        elif amount > burst:
            assert wait == math.inf
        else:
            assert math.ceil(wait * 1000 - INSTANT) == decision.retry_after_ms


# An amount that changes on the way


def quota(**fields: object) -> Limit:
    every = {"id": "quota", "count": "messages", "per": "ip", "limit": "60/min", "on_excess": "defer", "at": "EOD"}
    return Limit.model_validate(every | {"window": "sliding"} | fields)


@pytest.mark.parametrize("fields", [{}, {"window": "fixed", "anchor": "clock"}], ids=["sliding", "fixed"])
def test_a_rescaled_window_keeps_what_was_taken(fields: dict[str, object]) -> None:
    limit = quota(**fields)
    window = window_of(limit, 0, 0)
    window.take(20, at=0)
    rescale(window, limit, 0.5, now=1)
    assert [window.fits(amount, now=1) for amount in (10, 11)] == [True, False]
    rescale(window, limit, 0.1, now=2)
    assert (window.fits(1, now=2), window.fits(6, now=60), window.fits(7, now=60)) == (False, True, False)
    rescale(window, limit, 1.0, now=60)
    assert [window.fits(amount, now=60) for amount in (60, 61)] == [True, False]


def test_a_rescaled_bucket_keeps_its_tokens_and_fills_at_the_new_rate() -> None:
    limit = quota(window="token_bucket", burst=30)
    bucket = window_of(limit, 0, 0)
    bucket.take(20, at=0)
    rescale(bucket, limit, 0.5, now=0)  # 10 of 15 are left, one comes every 2 s
    assert (bucket.wait(10, now=0), bucket.wait(11, now=0), bucket.wait(15, now=0)) == (0, 2, 10)
    rescale(bucket, limit, 1.0, now=10)  # 15 of 30, one every second
    assert (bucket.wait(15, now=10), bucket.wait(30, now=10)) == (0, 15)
    rescale(bucket, limit, 0.1, now=10)  # 3 of 3: what doesn't fit is lost
    assert (bucket.wait(3, now=10), bucket.wait(4, now=10)) == (0, math.inf)


def test_a_rescaled_window_holds_at_least_one() -> None:
    for fields in ({}, {"window": "fixed", "anchor": "clock"}, {"window": "token_bucket", "burst": 2}):
        limit = quota(limit="5/h", **fields)
        window = window_of(limit, 0, 0)
        rescale(window, limit, 0.1, now=0)
        assert window.fits(1, now=0)
        window.take(1, at=0)
        assert not window.fits(1, now=1)


def test_only_what_has_a_period_is_rescaled() -> None:
    limit = quota(count="connections", limit=5, window=None, at="CONNECT")
    with pytest.raises(ValueError, match="limit must have a period, got quota"):
        rescale(window_of(limit, 0, 0), limit, 0.5, now=0)
