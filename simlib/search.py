"""The search for what a limit may be: every hypothesis against every reply, and what is left.

The periods are those in which limits are published and, where none of them will do, the one that the replies suggest. A
limit is learned if one kind of window and one period are left; else there is not enough to say which it is, and it is
not guessed.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from simlib.evidence import EARLY, Counting, Family, Log, countings, numbered
from simlib.hypothesis import Asked, Bounds, Hypothesis, Trials, bounds

__all__ = ["Finding", "explain"]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
PERIODS: Final = (
    *(1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(n * MINUTE for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * HOUR for n in (1, 2, 3, 4, 6, 8, 12)),
    *(n * DAY for n in (1, 7, 30)),
)
"""The periods in which limits are published, in seconds."""
TRIED: Final = 1000
"""About so many hypotheses are held against each family of refusals."""
CHANCE: Final = 1e-3
"""A limit is claimed if luck would separate accepted from refused as well as any of them less often than that."""


@dataclass(frozen=True)
class Finding:
    """What the replies say about one limit.

    Parameters
    ----------
    family : Family
        The refusals that it is about.
    text : str
        The first of them, as it was said.
    times : int
        How often it refused, or held.
    left : sequence of (Hypothesis, Bounds)
        What explains every reply, the likeliest first; empty if nothing does.
    same : mapping
        By field, what the log can't tell apart from what the first hypothesis says, such as other counts that were
        always equal.
    why : str
        Why there is not enough to say which limit it is; empty if it is learned.
    """

    family: Family
    text: str
    times: int
    left: tuple[tuple[Hypothesis, Bounds], ...]
    same: dict[str, tuple[str, ...]]
    why: str = ""

    @property
    def enough(self) -> bool:
        """Whether kind, period and amount are known."""
        return not self.why

    @property
    def best(self) -> Hypothesis:
        """The hypothesis that is left."""
        return self.left[0][0]

    @property
    def bounds(self) -> Bounds:
        """The amounts it is left with."""
        return self.left[0][1]


def explain(log: Log, family: Family, rows: Sequence[int]) -> Finding:
    """Return what is left of all that a limit may be: learned, or why it isn't.

    Parameters
    ----------
    log : Log
        What a provider answered.
    family : Family
        The refusals, or the replies that were kept back.
    rows : sequence of int
        Which outcomes of the log they are.

    Returns
    -------
    Finding
        With everything that the log leaves possible.
    """
    return Search(log, family, rows).finding(log, family, rows)


class Search:
    """Every hypothesis that explains every reply of one family."""

    def __init__(self, log: Log, family: Family, rows: Sequence[int]) -> None:
        self.hold = not family.words
        self.periods = tuple(period for period in PERIODS if period >= log.finest)
        self.stage = family.stage
        self.span = log.outcomes[-1].ended - log.outcomes[0].ended
        self.left: list[tuple[Hypothesis, Bounds]] = []
        self.alike: dict[tuple[str, str], tuple[str, ...]] = {}
        """By what is counted and by what: what the log divides in the same way."""
        self.equal: set[str] = set()
        """What could not be told from messages, as every message had the same."""
        self.luck = ""
        ways = list(countings(log, family, rows))
        if ways and self._is_luck(ways[0].trials.tests):
            return
        for penalties in (False, True):
            for counting in ways:
                self._try(log, counting, penalties)
            if self.left or self.hold:
                break

    def _try(self, log: Log, counting: Counting, penalties: bool) -> None:
        fixed = counting.kinds[0] in ("session", "message")
        if penalties and "sliding" not in counting.kinds:
            return
        distinct = [((counting.kinds[0],), counting.trials.keys)] if fixed else _distinct(log, counting, self.stage)
        if (
            counting.count == "messages"
            and len({log.outcomes[test.row].recipients for test in counting.trials.tests}) == 1
        ):
            self.equal.add("recipients")
        for pers, keys in distinct:
            trials = counting.trials.by(keys)
            self.alike[counting.count, pers[0]] = pers[1:]
            self._try_periods(counting, pers[0], trials, self.periods, penalties)
            if "sliding" in counting.kinds and not self.left:
                self._try_periods(counting, pers[0], trials, _suggested(trials), penalties)
            if "token_bucket" in counting.kinds and not self.hold and not penalties:
                self._try_buckets(counting.count, pers[0], trials)

    def _try_periods(
        self, counting: Counting, per: str, trials: Trials, periods: Sequence[float], penalties: bool
    ) -> None:
        for hypothesis in _hypotheses(counting, per, self.hold, periods):
            if penalties:
                for penalty in {hypothesis.period, DAY}:
                    self._hold_against(replace(hypothesis, penalty=penalty), trials)
            else:
                self._hold_against(hypothesis, trials)

    def _hold_against(self, hypothesis: Hypothesis, trials: Trials) -> bool:
        bound = bounds(hypothesis, trials)
        if bound is None or bound.high == math.inf or bound.high < 1:
            return False
        self.left.append((hypothesis, bound))
        return True

    def _try_buckets(self, count: str, per: str, trials: Trials) -> None:
        """Try token buckets that fill as fast as rates are published, and if none will do, at any rate."""
        taken: dict[int, float] = {}
        for take in trials.takes:
            if not take.refused:
                taken[trials.keys[take.row]] = taken.get(trials.keys[take.row], 0.0) + trials.amounts[take.row]
        if not taken or self.span <= 0:
            return
        mean = max(taken.values()) / self.span
        published = sorted(
            (n * 10**power / unit, unit)
            for unit in (1.0, MINUTE, HOUR, DAY)
            for power in range(7)
            for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
            if mean / 8 <= n * 10**power / unit <= mean * 1.05
        )
        rates = {rate for rate, _ in published}
        if not sum(self._hold_against(Hypothesis("token_bucket", count, per, rate=rate), trials) for rate in rates):
            for step in range(213):
                rate = mean * 1.05 * 0.99**step
                if self._hold_against(Hypothesis("token_bucket", count, per, rate=rate), trials):
                    break

    def finding(self, log: Log, family: Family, rows: Sequence[int]) -> Finding:
        """Return what is left as a finding: learned, or why it isn't."""
        left = sorted(self.left, key=_plainness)
        if left and left[0][0].kind in ("message", "session"):
            # sizes alone, or sessions alone, sort out every reply: a window that does so too is an accident
            left = [one for one in left if one[0].kind == left[0][0].kind]
        text = log.outcomes[rows[0]].text
        why = self._why(log, family, left)
        if why:
            return Finding(family, text, len(rows), tuple(left), {}, why)
        best = left[0][0]
        same: dict[str, tuple[str, ...]] = {}
        equal = self.equal if any(one.count == "messages" for one, _ in left) else ()
        for name, own, others in (
            ("per", best.per, [*self.alike.get((best.count, best.per), ()), *(one.per for one, _ in left)]),
            ("count", best.count, [*equal, *(one.count for one, _ in left)]),
            ("counts", best.attempts, [one.attempts for one, _ in left]),
            ("anchor", best.anchor, [one.anchor for one, _ in left]),
        ):
            different = sorted({_word(other) for other in others if other != own})
            if different:
                same[name] = tuple(different)
        return Finding(family, text, len(rows), tuple(left), same)

    def _is_luck(self, tests: Sequence[Asked]) -> bool:
        """Whether some hypothesis would have been likely to separate accepted from refused though none were true."""
        full = sum(test.full for test in tests)
        luck = _log_choose(len(tests), full) < math.log(TRIED / CHANCE)
        if luck:
            self.luck = f"refused only {full} of {len(tests)} times: that could be luck"
        return luck

    def _why(self, log: Log, family: Family, left: Sequence[tuple[Hypothesis, Bounds]]) -> str:
        if family.stage in EARLY and not log.sessions:
            return "the table does not say which attempts shared a session"
        if self.luck:
            return self.luck
        if not left:
            return "no single limit explains every reply"
        kinds = dict.fromkeys(str(one) for one in _by_count(left))
        if len(kinds) > 1:
            shown = list(kinds)[:6]
            more = f" or {len(kinds) - 6} others" if len(kinds) > 6 else ""
            return f"could be {' or '.join(shown)}{more}"
        return ""


def _by_count(left: Sequence[tuple[Hypothesis, Bounds]]) -> Iterator[Hypothesis]:
    """Yield the hypotheses, but of those that differ only in what is counted, and by no amount, the plainest.

    Where each session carries one message, transactions at once and connections at once hardly differ.
    """
    seen = set()
    for one, bound in left:
        amount = None if one.kind == "in_use" else bound
        other = one.kind, one.period, one.penalty, one.attempts, one.offset, one.rate, amount
        if other not in seen or one.kind == "message":
            yield one
        seen.add(other)


def _word(value: object) -> str:
    return {True: "attempts", False: "accepted"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _plainness(left: tuple[Hypothesis, Bounds]) -> tuple[Any, ...]:
    """Order what explains a log equally well: what is published more often first."""
    one = left[0]
    kinds = ("message", "session", "in_use", "sliding", "fixed", "token_bucket")
    counts = ("sessions", "logins", "messages", "recipients", "transactions", "connections", "bytes")
    anchors = ("utc_day", "clock", "first_event", None)
    rate = 0.0 if one.rate is None else len(f"{one.rate * 86400:.6g}".rstrip("0"))
    return (
        kinds.index(one.kind),
        counts.index(one.count),
        one.attempts,
        anchors.index(one.anchor),
        one.period or 0.0,
        one.penalty or 0.0,
        rate,
    )


def _log_choose(n: int, k: int) -> float:
    """Logarithm of the number of ways in which k of n could have been refused."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _hypotheses(counting: Counting, per: str, hold: bool, periods: Sequence[float]) -> Iterator[Hypothesis]:
    """Yield what a limit that counts so may be; token buckets have rates of their own."""
    count = counting.count
    for kind in counting.kinds:
        if kind in ("in_use", "session", "message"):
            yield Hypothesis(kind, count, per)
        elif kind != "token_bucket":
            for period in periods:
                for offset in _offsets(kind, period):
                    for attempts in (False,) if hold else (False, True):
                        yield Hypothesis(kind, count, per, period, offset, attempts)


def _offsets(kind: str, period: float) -> tuple[float | None, ...]:
    """Return when fixed windows may begin: with the clock, a day's at midnight of any zone, or with the first event."""
    if kind != "fixed":
        return (0.0,)
    return (*(hour * HOUR for hour in range(24)), None) if period == DAY else (0.0, None)


def _distinct(log: Log, counting: Counting, stage: str) -> list[tuple[tuple[str, ...], list[int]]]:
    """Return the ways to divide the attempts among windows, those that come to the same together."""
    known = {"CONNECT": ("ip",), "EHLO": ("ip",), "AUTH": ("account", "ip", "tenant")}.get(stage, tuple(log.partitions))
    found: dict[tuple[int, ...], list[str]] = {}
    trials = counting.trials
    concerned = sorted({one.row for one in trials.tests} | {one.row for one in trials.takes})
    for per, keys in log.partitions.items():
        if per in known:
            found.setdefault(tuple(numbered([str(keys[row]) for row in concerned])), []).append(per)
    if not found:  # the log has one address, and doesn't say which
        return [(("ip",), [0] * len(log.outcomes))]
    return [(tuple(pers), log.partitions[pers[0]]) for pers in found.values()]


def _suggested(trials: Trials) -> list[float]:
    """Return the period of a sliding window that the replies themselves suggest, rounded as far as they allow.

    Until its first refusal a window has lost nothing, so what was in it then is the amount. And with the amount each
    refusal says that the period is longer than the time since so much was taken, each acceptance that it is not.
    """
    times: dict[int, list[float]] = {}
    before: dict[int, list[float]] = {}  # how much had been taken before each
    amount: dict[int, float] = {}
    events = sorted(
        [(test.at, 0, test.row, test.full) for test in trials.tests]
        + [(take.at, 1, take.row, False) for take in trials.takes if not take.refused]
    )
    longer, within = 0.0, math.inf
    for at, step, row, full in events:
        key = trials.keys[row]
        then, upto = times.setdefault(key, []), before.setdefault(key, [0.0])
        if step:
            then.append(at)
            upto.append(upto[-1] + trials.amounts[row])
            continue
        if full:
            amount.setdefault(key, upto[-1])
        if key not in amount:
            continue
        place = bisect_right(upto, upto[-1] - amount[key] + trials.asks[row] - 1) - 1
        if not 0 <= place < len(then):
            continue
        if full:
            longer = max(longer, at - then[place])
        else:
            within = min(within, at - then[place])
        if longer >= within:
            return []
    if within == math.inf or longer == 0.0:
        return []
    for unit in (DAY, HOUR, MINUTE, 1.0):
        count = math.floor(longer / unit) + 1
        if count * unit <= within:
            return [] if count * unit in PERIODS else [count * unit]
    return [(longer + within) / 2]
