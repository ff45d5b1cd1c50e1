"""What the replies leave of a hypothesis: exactly the amounts with which the windows reproduce them."""

from hypothesis import given
from hypothesis import strategies as st

from simlib.hypothesis import Asked, Bounds, Hypothesis, Lasting, Take, Trials, bounds
from simlib.windows import FixedWindow, SlidingWindow, TokenBucket, Window

PERIOD = 60.0
gaps = st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0, 20.0, 59.0, 60.0]), min_size=5, max_size=60)
sizes = st.integers(1, 3)


def replay(window: Window, moments: list[float], amounts: list[int], attempts: bool) -> list[bool]:
    """Return which of the tries a window accepts."""
    accepted = []
    for at, amount in zip(moments, amounts, strict=True):
        fits = window.fits(amount, at)
        if fits or attempts:
            window.take(amount, at)
        accepted.append(fits)
    return accepted


def trials_of(moments: list[float], amounts: list[int], accepted: list[bool], width: float = 0.0) -> Trials:
    tests = [Asked(at - width, at, row, not accepted[row]) for row, at in enumerate(moments)]
    takes = [Take(at - width, at, row, not accepted[row]) for row, at in enumerate(moments)]
    return Trials(tests, takes, asks=amounts, amounts=amounts, keys=[0] * len(moments))


def window_of(kind: str, amount: int) -> Window:
    if kind == "sliding":
        return SlidingWindow(amount, PERIOD)
    if kind == "token_bucket":
        return TokenBucket(6.0, PERIOD, amount)
    return FixedWindow(amount, PERIOD, 0.0 if kind == "fixed" else None)


def hypothesis_of(kind: str, attempts: bool) -> Hypothesis:
    if kind == "token_bucket":
        return Hypothesis("token_bucket", "messages", "account", attempts=attempts, rate=6.0 / PERIOD)
    offset = None if kind == "first_event" else 0.0
    name = "fixed" if kind == "first_event" else "sliding" if kind == "sliding" else "fixed"
    return Hypothesis(name, "messages", "account", PERIOD, offset, attempts)  # type: ignore[arg-type]


kinds = st.sampled_from(["sliding", "fixed", "first_event", "token_bucket"])


@given(kind=kinds, waits=gaps, amount=st.integers(3, 8), attempts=st.booleans(), data=st.data())
def test_the_amounts_left_are_exactly_those_that_reproduce_every_reply(
    kind: str, waits: list[float], amount: int, attempts: bool, data: st.DataObject
) -> None:
    moments = [sum(waits[: place + 1]) for place in range(len(waits))]
    amounts = [data.draw(sizes) for _ in moments]
    accepted = replay(window_of(kind, amount), moments, amounts, attempts)
    found = bounds(hypothesis_of(kind, attempts), trials_of(moments, amounts, accepted))
    assert found is not None
    reproduce = [n for n in range(3, 12) if replay(window_of(kind, n), moments, amounts, attempts) == accepted]
    below = 0 if kind != "token_bucket" else 1e-6  # a bucket's burst may be anything below what did not fit
    assert reproduce == [n for n in range(3, 12) if found.low - 1e-6 <= n <= found.high - below]
    assert amount in reproduce


@given(waits=gaps, amount=st.integers(2, 6), width=st.sampled_from([0.1, 0.6, 5.0]), data=st.data())
def test_a_clock_that_is_only_so_good_rules_the_truth_out_never(
    waits: list[float], amount: int, width: float, data: st.DataObject
) -> None:
    """The log has each moment up to `width` late, by different amounts; the order is known."""
    real: list[float] = []
    said: list[float] = []
    for wait in waits:
        real.append((real[-1] if real else 0.0) + max(wait, 2 * width))
        said.append(real[-1] + data.draw(st.floats(0, width)))
    amounts = [1] * len(real)
    for kind in ("sliding", "fixed"):
        accepted = replay(window_of(kind, amount), real, amounts, attempts=False)
        tests = [Asked(at - width, at, row, not accepted[row]) for row, at in enumerate(said)]
        takes = [Take(at - width, at, row, not accepted[row]) for row, at in enumerate(said)]
        trials = Trials(tests, takes, amounts, amounts, [0] * len(said))
        found = bounds(hypothesis_of(kind, attempts=False), trials)
        assert found is not None
        assert found.low <= amount <= found.high


def test_what_may_still_have_been_in_the_window_explains_a_refusal() -> None:
    """One was taken by second 5, and one refused at some time from 57 on: within 60 seconds, for all the log knows."""
    takes, tests = [Take(0, 5, 0, False)], [Asked(0, 5, 0, False), Asked(57, 66, 1, True)]
    trials = Trials(tests, takes, [1, 1], [1, 1], [0, 0])
    for hypothesis in (hypothesis_of("sliding", attempts=False), hypothesis_of("fixed", attempts=False)):
        assert bounds(hypothesis, trials) == Bounds(1, 1)


def test_each_account_has_its_own_window() -> None:
    trials = trials_of([0, 1, 2, 3], [1] * 4, [True, True, False, False])
    sliding = Hypothesis("sliding", "messages", "account", PERIOD)
    assert bounds(sliding, trials.by([0, 1, 0, 1])) == Bounds(1, 1)
    assert bounds(sliding, trials.by([0, 0, 0, 0])) == Bounds(2, 2)


def test_while_a_penalty_runs_refusals_say_nothing_and_nothing_passes() -> None:
    """Two an hour, and after the first excess nothing for two hours: the first is free again, and still refused."""
    moments, accepted = [0.0, 0.0, 10.0, 3700.0, 7100.0, 7210.0], [True, True, False, False, False, True]
    trials = trials_of(moments, [1] * 6, accepted)
    hour = Hypothesis("sliding", "messages", "account", 3600.0)
    assert bounds(hour, trials) is None
    assert bounds(Hypothesis("sliding", "messages", "account", 3600.0, penalty=7200.0), trials) == Bounds(2, 2)
    assert bounds(Hypothesis("sliding", "messages", "account", 3600.0, penalty=7300.0), trials) is None


def test_what_is_in_use_is_counted_with_the_one_that_asks() -> None:
    """Three may be open at once: the fourth is refused, the fifth comes when one is over."""
    lasting = [Lasting(at, at, at + 10, at + 10, row) for row, at in enumerate([0.0, 1.0, 2.0])]
    lasting.append(Lasting(11.0, 11.0, 20.0, 20.0, 4))
    tests = [Asked(at, at, row, row == 3) for row, at in enumerate([0.0, 1.0, 2.0, 3.0, 11.0])]
    trials = Trials(tests, (), [1] * 5, [1] * 5, [0] * 5, lasting=lasting)
    assert bounds(Hypothesis("in_use", "connections", "ip"), trials) == Bounds(3, 3)


def test_a_message_is_too_large_or_isnt() -> None:
    trials = Trials([Asked(0, 0, row, row == 2) for row in range(3)], (), [10, 40, 51], [10, 40, 51], [0] * 3)
    assert bounds(Hypothesis("message", "recipients", "message"), trials) == Bounds(40, 50)
