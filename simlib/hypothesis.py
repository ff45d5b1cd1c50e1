"""What a limit might be, and which amounts a sequence of replies leaves it.

A hypothesis says what is counted, by what, in which window, and whether refused tries count. Its windows are those of
`simlib.windows`, told of everything that was accepted, so that a hypothesis holds exactly if they reproduce every
acceptance and every refusal. An acceptance says that the amount is at least what was in use by then, a refusal that it
is less; where the one contradicts the other, the hypothesis is out. How full a window is does not depend on its amount,
so one pass over the log settles every amount at once.

A log knows times only so well. What was decided between `since` and `at` counts as taken where that is the weaker
claim, and as not taken where that is: no hypothesis falls by a clock's rounding.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, NamedTuple

from simlib.windows import INSTANT, FixedWindow, SlidingWindow, TokenBucket

__all__ = ["Asked", "Bounds", "Hypothesis", "Lasting", "Take", "Trials", "bounds", "spoken"]

Kind = Literal["sliding", "fixed", "token_bucket", "in_use", "session", "message"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a limit might be; its amount is what the replies are asked for.

    Parameters
    ----------
    kind : str
        ``sliding``, ``fixed`` and ``token_bucket`` windows, what is ``in_use`` at once, or so many in a ``session`` or
        ``message``.
    count, per : str
        What is counted, and by what; as in a provider's facts.
    period : float, optional
        Length of the window, in seconds.
    offset : float, optional
        Fixed windows: they start whenever time and offset add up to a multiple of the period; None: with the first
        event after the one before.
    attempts : bool
        Whether a refused try uses the quota up.
    penalty : float, optional
        After the first excess nothing passes for so long; in seconds.
    rate : float, optional
        Token buckets: what trickles in, per second. Their amount is the burst.
    """

    kind: Kind
    count: str
    per: str
    period: float | None = None
    offset: float | None = 0.0
    attempts: bool = False
    penalty: float | None = None
    rate: float | None = None

    @property
    def anchor(self) -> str | None:
        """When a fixed window begins, as facts have it."""
        if self.kind != "fixed":
            return None
        if self.offset is None:
            return "first_event"
        return "utc_day" if self.period == SIZES["day"] and self.offset == 0 else "clock"

    def __str__(self) -> str:
        """Say what has to be known of a limit besides its amount."""
        count = self.count.replace("_", " ")
        if self.kind in ("message", "session"):
            return f"{count} in a {self.kind}"
        if self.kind == "in_use":
            return f"{count} at once"
        if self.kind == "token_bucket":
            return f"{count} from a token bucket"
        assert self.period is not None
        penalty = f" and a penalty of {spoken(self.penalty)}" if self.penalty else ""
        return f"{count} in a {self.kind} window of {spoken(self.period)}{penalty}"


SIZES: Final = {"day": 86400.0, "hour": 3600.0, "minute": 60.0, "second": 1.0}


def spoken(seconds: float) -> str:
    """Say a duration in the largest unit that fits.

    Parameters
    ----------
    seconds : float
        More than 0.

    Returns
    -------
    str
        A number and a unit.

    Examples
    --------
    >>> spoken(600), spoken(86400), spoken(57.5)
    ('10 minutes', '1 day', '57.5 seconds')
    """
    unit, size = next((unit, size) for unit, size in SIZES.items() if seconds % size == 0 or size == 1.0)
    return f"{seconds / size:g} {unit}{'' if seconds == size else 's'}"


class Asked(NamedTuple):
    """A moment at which a limit was asked: between `since` and `at`, in seconds, for the attempt of that number.

    Parameters
    ----------
    since, at : float
        Between which moments, in seconds.
    row : int
        Of the attempt, from 0.
    full : bool
        Whether it was refused: there was no room.
    """

    since: float
    at: float
    row: int
    full: bool  # it refused, or held until then


class Take(NamedTuple):
    """Something that a limit counts, at a moment between `since` and `at`; `refused` tries only count as attempts.

    Parameters
    ----------
    since, at : float
        Between which moments, in seconds.
    row : int
        Of the attempt, from 0.
    refused : bool
        Whether the attempt was turned away.
    """

    since: float
    at: float
    row: int
    refused: bool


class Lasting(NamedTuple):
    """Something in use: perhaps from `may_begin` and until `until`, for sure from `begun` and until `surely_until`.

    Parameters
    ----------
    may_begin, begun : float
        Before the first it was not there, from the second on it was; in seconds.
    surely_until, until : float
        Until the first it was there, after the second no more; in seconds.
    row : int
        Of the attempt, from 0.
    """

    may_begin: float
    begun: float
    surely_until: float
    until: float
    row: int


class Bounds(NamedTuple):
    """The amounts that a hypothesis is left with: everything from `low` to `high`.

    Parameters
    ----------
    low, high : float
        The smallest and the largest amount, both among them.

    Examples
    --------
    >>> Bounds(30, 30).exact
    True
    """

    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether only one amount is left."""
        return self.low == self.high


Step = tuple[int, float, int, int, float, float, int]
"""Of whose window, when, a tie-break, which of the following, between which moments, and of which attempt."""
CERTAIN_TEST: Final = 0
CERTAIN_TAKE: Final = 1
POSSIBLE_TEST: Final = 2
POSSIBLE_TAKE: Final = 3
START: Final = 4


@dataclass
class Trials:
    """The evidence about one limit.

    Parameters
    ----------
    tests, takes : sequence of Asked, of Take
        When it was asked, and what it counted.
    asks, amounts : sequence of float
        By attempt: how much it asked room for, and how much it took.
    keys : sequence of int
        By attempt: whose window.
    starts : sequence of Take
        What begins a window without counting in it, where windows begin with the first event.
    lasting : sequence of Lasting
        For what is in use at once.
    owners : sequence of int
        By attempt, the one under whose number it stands in `lasting`; its own if empty.
    """

    tests: Sequence[Asked]
    takes: Sequence[Take]
    asks: Sequence[float]
    amounts: Sequence[float]
    keys: Sequence[int]
    starts: Sequence[Take] = ()
    lasting: Sequence[Lasting] = ()
    owners: Sequence[int] = ()
    _steps: dict[tuple[bool, bool], tuple[list[Step], float]] = field(default_factory=dict)

    @cached_property
    def in_order(self) -> list[Asked]:
        """The tests by the time by which they were decided."""
        return sorted(self.tests, key=lambda test: (test.at, test.row))

    def by(self, keys: Sequence[int]) -> "Trials":
        """Return the same evidence, counted by something else."""
        return replace(self, keys=keys, _steps={})

    def steps(self, attempts: bool, first_event: bool) -> tuple[list[Step], float]:
        """Return what happens, window by window and in order, and how unsure the least sure moment is, in seconds.

        What contradicts a hypothesis mostly does so in the first window that is looked at.
        """
        if (attempts, first_event) not in self._steps:
            found: list[Step] = []
            keys = self.keys
            for since, at, row, full in self.tests:
                when, step = (at, POSSIBLE_TEST) if full else (since, CERTAIN_TEST)
                found.append((keys[row], when, 2 * row, step, since, at, row))
            for since, at, row, refused in self.takes:
                if attempts or not refused:
                    found.append((keys[row], at, 2 * row + 1, CERTAIN_TAKE, since, at, row))
                    found.append((keys[row], at if refused else since, 2 * row + 1, POSSIBLE_TAKE, since, at, row))
            if first_event:
                found += [(keys[row], since, 2 * row - 1, START, since, at, row) for since, at, row, _ in self.starts]
            spread = max((at - since for *_, since, at, _ in found), default=0.0)
            self._steps[attempts, first_event] = sorted(found), spread
        return self._steps[attempts, first_event]


def bounds(hypothesis: Hypothesis, trials: Trials) -> Bounds | None:
    """Return the amounts under which a hypothesis reproduces every acceptance and refusal; None if there are none.

    Parameters
    ----------
    hypothesis : Hypothesis
        What the limit might be.
    trials : Trials
        The evidence, counted by what the hypothesis says.

    Returns
    -------
    Bounds or None
        In the unit of what is counted.

    Examples
    --------
    Two are accepted at once, the third is refused after 59 seconds and accepted after 60:

    >>> takes = [Take(at, at, row, False) for row, at in enumerate([0, 0, 60])]
    >>> tests = [Asked(0, 0, 0, False), Asked(0, 0, 1, False), Asked(59, 59, 3, True), Asked(60, 60, 2, False)]
    >>> trials = Trials(tests, takes, asks=[1] * 4, amounts=[1] * 4, keys=[0] * 4)
    >>> bounds(Hypothesis("sliding", "messages", "account", period=60), trials)
    Bounds(low=2.0, high=2.0)
    >>> bounds(Hypothesis("sliding", "messages", "account", period=61), trials) is None
    True
    """
    if hypothesis.kind == "message":
        return _between(
            max((trials.asks[one.row] for one in trials.tests if not one.full), default=0),
            min((trials.asks[one.row] - 1 for one in trials.tests if one.full), default=math.inf),
        )
    if hypothesis.kind == "in_use":
        return _in_use(trials)
    barred = _barred(hypothesis, trials) if hypothesis.penalty is not None else {}
    if barred is None:
        return None
    return _counted(hypothesis, trials, barred)


def _between(low: float, high: float) -> Bounds | None:
    return Bounds(low, high) if low <= high else None


def _barred(hypothesis: Hypothesis, trials: Trials) -> dict[int, list[tuple[float, float]]] | None:
    """Return by key when a penalty ran; None if something passed meanwhile."""
    found: dict[int, list[tuple[float, float]]] = {}
    assert hypothesis.penalty is not None
    for since, at, row, full in trials.in_order:
        times = found.setdefault(trials.keys[row], [])
        if full and (not times or since >= times[-1][1] - INSTANT):
            times.append((at, since + hypothesis.penalty))
        elif not full and times and at < times[-1][1] - INSTANT and since > times[-1][0]:
            return None
    return found


def _is_barred(times: Iterable[tuple[float, float]], since: float, at: float) -> bool:
    return any(begin < at and since < end - INSTANT for begin, end in times)


Counter = SlidingWindow | FixedWindow | TokenBucket


def _counter(hypothesis: Hypothesis) -> Counter:
    """Return an empty window that never refuses: it is only asked how full it is."""
    if hypothesis.kind == "token_bucket":
        assert hypothesis.rate is not None
        return TokenBucket(hypothesis.rate, 1.0, math.inf)
    if hypothesis.kind == "session":
        return SlidingWindow(math.inf, math.inf)
    assert hypothesis.period is not None
    if hypothesis.kind == "fixed":
        return FixedWindow(math.inf, hypothesis.period, hypothesis.offset)
    return SlidingWindow(math.inf, hypothesis.period)


def _counted(hypothesis: Hypothesis, trials: Trials, barred: dict[int, list[tuple[float, float]]]) -> Bounds | None:
    steps, spread = trials.steps(hypothesis.attempts, hypothesis.kind == "fixed" and hypothesis.offset is None)
    asks, amounts = trials.asks, trials.amounts
    exact = spread == 0.0
    bucket = hypothesis.kind == "token_bucket"
    of = None
    certain = possible = _counter(hypothesis)
    low, high = 0.0, math.inf
    for key, _, _, step, since, at, row in steps:
        if key != of:
            of, certain = key, _counter(hypothesis)
            possible = certain if exact else _counter(hypothesis)
        if step == CERTAIN_TEST:
            low = max(low, _certainly_in(certain, since, at) + asks[row])
        elif step == POSSIBLE_TEST:
            if barred and _is_barred(barred.get(key, ()), since, at):
                continue
            # one less than what did not fit; a burst may be anything below it
            high = min(high, _possibly_in(possible, since, at) + asks[row] - (0 if bucket else 1))
        elif step == CERTAIN_TAKE:
            certain.take(amounts[row], since)  # as early as it can have been; what is asked of it comes after `at`
            continue
        elif step == POSSIBLE_TAKE:
            if not exact:
                _take_where_possible(possible, amounts[row], since, at, spread)
            continue
        else:
            certain.take(0, since)
            if not exact:
                possible.take(0, since)
            continue
        if low > high or (bucket and low >= high - INSTANT):
            return None
    return Bounds(low, high)


def _certainly_in(window: Counter, since: float, at: float) -> float:
    """Return how much was certainly in use between two moments, whichever was the real one."""
    if isinstance(window, SlidingWindow):
        window.fits(0, at)
        return window.used
    if isinstance(window, TokenBucket):
        return max(0.0, window.full_at - at) / window.each
    window.wait(0, since)
    if not window.windows:
        return 0.0
    start, used = window.windows[0]
    return used if start <= since + INSTANT and at < start + window.period - INSTANT else 0.0


def _possibly_in(window: Counter, since: float, at: float) -> float:
    """Return how much may have been in use between two moments."""
    if isinstance(window, SlidingWindow):
        window.fits(0, since)
        return window.used
    if isinstance(window, TokenBucket):
        return max(0.0, window.full_at - since) / window.each
    window.wait(0, since)
    return max((used for start, used in window.windows if start <= at + INSTANT), default=0.0)


def _take_where_possible(window: Counter, amount: float, since: float, at: float, spread: float) -> None:
    """Count it wherever it may lie; in a sliding window as late as it can have been."""
    if isinstance(window, FixedWindow):
        window.wait(0, since - spread)  # what was over by then, nothing lies in any more
        window.take(amount, since)
        if at > since and not _same(window, since, at):
            window.take(amount, at)
    else:
        window.take(amount, at)


def _same(window: FixedWindow, since: float, at: float) -> bool:
    """Whether two moments, the first of which has been counted, lie in one window."""
    return any(start - INSTANT <= since and at < start + window.period - INSTANT for start, _ in window.windows)


def _in_use(trials: Trials) -> Bounds | None:
    """Return the bounds of how many may be in use at once, the one that asks included."""
    spans: dict[int, list[list[float]]] = {}
    for one in trials.lasting:
        for times, moment in zip(spans.setdefault(trials.keys[one.row], [[], [], [], []]), one[:4], strict=True):
            times.append(moment)
    for lists in spans.values():
        for times in lists:
            times.sort()
    own = {one.row: one for one in trials.lasting}
    low, high = 0.0, math.inf
    for since, at, row, full in trials.tests:
        may_begin, begun, surely_until, until = spans.get(trials.keys[row], ((), (), (), ()))
        mine = own.get(trials.owners[row] if trials.owners else row)
        if full:
            others = bisect_right(may_begin, at) - bisect_left(until, since)
            if mine and mine.may_begin <= at and mine.until >= since:
                others -= 1
            high = min(high, others)
        else:
            others = bisect_left(begun, since) - bisect_left(surely_until, at)
            if mine and mine.begun < since and mine.surely_until >= at:
                others -= 1
            low = max(low, others + 1)
        if low > high:
            return None
    return Bounds(low, high)
