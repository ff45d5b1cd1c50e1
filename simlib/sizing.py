"""How much a channel takes, and how much of it is needed: answers by simulation to questions of size."""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simlib.estimate import wilson
from simlib.experiment import run
from simlib.question import Candidate, Day
from simlib.scenario import Scenario
from simlib.summary import summarize

__all__ = ["Capacity", "Trials", "apart", "capacity", "decide", "largest_send", "smallest"]

ODDS = 4.0
"""The indifference zone: probabilities whose odds are within this factor of the confidence's are called either way."""
ERROR = 0.1
"""Chance of a wrong call outside the zone, either way."""
MOST_RUNS = 400
"""Runs after which the share of successes decides."""
MOST_UNITS, MOST_IPS = 1024, 254
"""Mailboxes, and IPs, beyond which it isn't searched; a channel has at most so many IPs."""
MOST_OFFERED = 20_000
"""Messages over which the capacity of a mailbox, or of a channel without any, isn't searched."""
PRECISION = 0.01
"""Relative width to which a capacity is bisected."""
CAPACITY_RUNS = 5
"""Runs from which a channel's capacity is estimated."""

MOST = 2_000
"""Messages beyond which a single send isn't searched: twice the largest group e-mail of Sales Connect."""


def largest_send(scenario: Scenario, alternative: str, within: float = 900.0, as_of: dt.date | None = None) -> int:
    """Return the largest send that one sender's channel takes without a refusal, all of it accepted in time.

    Parameters
    ----------
    scenario : Scenario
        Whose channels, readings and limits apply; its arrivals, events, faults and hours are left out.
    alternative : str
        The channel, paced and connected as it stands there.
    within : float, optional
        Seconds from the send until its last message has to be accepted.
    as_of : date, optional
        The date whose facts apply; the scenario's by default.

    Returns
    -------
    int
        Messages; `MOST` if even that many fit.

    Raises
    ------
    ValueError
        If `within` is not more than 0 and less than a day.

    Notes
    -----
    A send of `MOST` messages shows how many are taken in time; whether exactly so many fit is then tried, and the
    answer found by bisection if not. If n messages fit, so do fewer: one sender, nobody else on the channel.

    Examples
    --------
    >>> scenario = Scenario.build({
    ...     "name": "one-off", "duration": "1h",
    ...     "tenants": [{"name": "us", "senders": 1, "arrivals": {"kind": "batches", "size": 1}}],
    ...     "alternatives": {"Office 365": {"channels": [{"name": "o", "tenants": ["us"], "to": "office365"}]}},
    ... })
    >>> largest_send(scenario, "Office 365")
    480
    """
    if not 0 < within < 86400:
        raise ValueError(f"within must be more than 0 and less than a day, got {within:g} s")
    as_of = as_of or scenario.date

    def sent(size: int) -> dict[str, float]:
        send = _send(scenario, alternative, size, within)
        return summarize(run(send, alternative, as_of=as_of), send, send.lanes(alternative, as_of))["sender"].numbers

    def fits(size: int) -> bool:
        numbers = sent(size)
        refused = numbers["deferred_attempts"] + numbers["rejected_attempts"]
        return numbers["accepted"] == size and not refused and numbers["finished_at"] <= within

    if fits(MOST):
        return MOST
    guess = int(sent(MOST)["on_time"])
    low, high = 0, MOST
    if 0 < guess < MOST:
        low, high = (guess, high) if fits(guess) else (low, guess)
        if low == guess and not fits(guess + 1):
            return guess
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _send(scenario: Scenario, alternative: str, size: int, within: float) -> Scenario:
    """Return the scenario of one sender's send at second 0, through the channel that carries the first tenant.

    And through the one that takes what is over a warm-up; whose mail that one carries otherwise comes when all is over.
    """
    first = next(tenant.name for tenant in scenario.tenants if not tenant.neighbour)
    data = {key: value for key, value in scenario.data.items() if key not in ("events", "faults", "transient")}
    channels = data["alternatives"][alternative]["channels"]
    channel = next(channel for channel in channels if first in channel["tenants"])
    send = {"kind": "batches", "size": size}
    tenants: list[dict[str, object]] = [{"name": "sender", "senders": 1, "arrivals": send}]
    carrying = [{**channel, "tenants": ["sender"]}]
    if overflow := channel.get("overflow"):
        afterwards = {"kind": "batches", "size": 1, "first": f"{within + 59:g}s"}
        tenants.append({"name": "others", "neighbour": True, "senders": 1, "arrivals": afterwards})
        carrying += [{**one, "tenants": ["others"]} for one in channels if one["name"] == overflow]
    return Scenario.build(
        data
        | {
            "start": "00:00",
            "duration": f"{within + 60:g}s",
            "deadline": (dt.datetime.min + dt.timedelta(seconds=within)).time(),
            "tenants": tenants,
            "alternatives": {alternative: {"channels": carrying}},
        }
    )


@dataclass(frozen=True, slots=True)
class Trials:
    """Runs of which some were done by the deadline, and what that says.

    Parameters
    ----------
    reached : bool
        Whether the probability reaches the confidence.
    done, runs : int
        How many were done, of how many.
    random : bool
        Whether runs can differ at all.
    """

    reached: bool
    done: int
    runs: int
    random: bool

    @property
    def probability(self) -> float:
        """The share of runs that were done."""
        return self.done / self.runs

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the probability (Wilson); without any width where nothing is random."""
        return wilson(self.done, self.runs) if self.random else (self.probability, self.probability)


def zone(confidence: float) -> tuple[float, float]:
    """Return the indifference zone around a confidence: below it a channel is turned down, above it taken.

    Examples
    --------
    >>> [round(bound, 3) for bound in zone(0.95)]
    [0.826, 0.987]
    """
    odds = confidence / (1 - confidence)
    return odds / ODDS / (1 + odds / ODDS), odds * ODDS / (1 + odds * ODDS)


def decide(done: Callable[[int], bool], confidence: float, random: bool = True, least: int = 1) -> Trials:
    """Decide whether a probability reaches a confidence, with as many runs as that takes.

    Parameters
    ----------
    done : callable
        Whether the run of a number, from 0, is a success.
    confidence : float
        Between 0 and 1.
    random : bool, optional
        False if all runs are the same: then one is enough.
    least : int, optional
        Runs to be made even if fewer decide, for an interval that is worth showing.

    Returns
    -------
    Trials
        The decision, and the runs that it rests on.

    Raises
    ------
    ValueError
        If the confidence isn't between 0 and 1.

    References
    ----------
    Wald (1945), Sequential tests of statistical hypotheses, *Ann. Math. Stat.* 16, 117-186: the sequential probability
    ratio test of the lower against the upper end of the indifference `zone`, both errors `ERROR`.

    Examples
    --------
    >>> decide(lambda run: True, 0.95), decide(lambda run: False, 0.95).runs
    (Trials(reached=True, done=13, runs=13, random=True), 1)
    """
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence must be more than 0 and less than 1, got {confidence:g}: no number of runs is sure"
        )
    if not random:
        only = done(0)
        return Trials(only, int(only), 1, random=False)
    low, high = zone(confidence)
    success, failure = math.log(high / low), math.log((1 - high) / (1 - low))
    bound = math.log((1 - ERROR) / ERROR)
    ratio, successes = 0.0, 0
    reached: bool | None = None
    for number in range(MOST_RUNS):
        good = done(number)
        successes += good
        ratio += success if good else failure
        reached = reached if reached is not None else ratio > 0 if abs(ratio) >= bound else None
        if reached is not None and number + 1 >= least:
            return Trials(reached, successes, number + 1, random=True)
    return Trials(successes >= confidence * MOST_RUNS, successes, MOST_RUNS, random=True)


def smallest(
    done: Callable[[int, int], bool], confidence: float, random: bool = True, most: int = MOST_UNITS
) -> int | None:
    """Return the smallest number of mailboxes or IPs with which the probability reaches the confidence.

    Parameters
    ----------
    done : callable
        Whether the run of a number is a success with so many: ``done(units, run)``. More never do harm.
    confidence : float
        Between 0 and 1.
    random : bool, optional
        False if all runs are the same.
    most : int, optional
        Beyond which it isn't searched.

    Returns
    -------
    int or None
        None if not even `most` are enough.

    Notes
    -----
    Bisection under common random numbers: run 0 alone brackets the answer, `decide`, on the runs after it, moves it up
    or down by steps that double, and halves what is left. Each number that is tried sees the same runs.

    Examples
    --------
    >>> smallest(lambda units, run: units * 40 >= 1000, 0.95)
    25
    """

    def enough(units: int) -> bool:
        return decide(lambda run: done(units, run + 1), confidence).reached  # run 0 chose where to begin

    guess = _first(lambda units: done(units, 0), 1, most)
    if not random:
        return guess
    guess = most if guess is None else guess
    step, low, high = 1, 0, most + 1  # low is not enough, high is; most + 1 stands for more than may be tried
    if enough(guess):
        high = guess
        while high - step >= 1 and enough(high - step):
            high, step = high - step, 2 * step
        low = max(high - step, 0)
    else:
        low = guess
        while low + step <= most and not enough(low + step):
            low, step = low + step, 2 * step
        high = min(low + step, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= most else None


def _first(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Return the first number that is enough, if larger ones are, too: doubled until one is, then bisected."""
    low, high = least - 1, least
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest volume that is done by the deadline.

    Parameters
    ----------
    messages : int
        All offered at the start, dealt over the mailboxes in turn.
    or_more : bool
        Whether the search ended there, at `MOST_OFFERED`.
    """

    messages: int
    or_more: bool


def capacity(candidate: Candidate, confidence: float, seed: int, as_of: dt.date) -> Capacity:
    """Return the largest volume that a channel takes from the start until the deadline.

    Parameters
    ----------
    candidate : Candidate
        The channel, with the mailboxes or IPs that it has; its team's own arrivals and events are left out.
    confidence : float
        With which all of it has to be done.
    seed : int
        Of the random streams.
    as_of : date
        The date whose facts apply.

    Returns
    -------
    Capacity
        A volume that is done; one message more may be, too, where runs differ.

    Notes
    -----
    More is offered than the channel takes, in `CAPACITY_RUNS` runs (two if they agree); how much it takes in time
    differs between them by service times, so the answer is the one-sided normal tolerance limit below their mean
    (content the confidence, confidence 95 %; Owen 1968, *Technometrics* 10, 445-478). It is then offered alone, and
    bisected if any of it is refused.
    Where mailboxes share no limit, one is simulated and counted so many times.
    """
    alone = apart(candidate, as_of)
    shares = candidate.units if alone else 1

    def day(volume: int, run_: int) -> Day:
        return _send_all(candidate, volume, 1 if alone else candidate.units).day(seed, run_, as_of)

    volume = min(MOST_OFFERED, _first_guess(candidate, as_of))
    while (taken := day(volume, 0).on_time) == volume and volume < MOST_OFFERED:
        volume = min(4 * volume, MOST_OFFERED)
    if taken == volume:
        return Capacity(volume * shares, or_more=True)
    runs = [taken, day(volume, 1).on_time]
    if runs[0] != runs[1]:  # a quota cuts every run off at the same number
        runs += [day(volume, number).on_time for number in range(2, CAPACITY_RUNS)]
    found = _tolerance_limit(runs, confidence ** (1 / shares))
    if found and not day(found, 0).done:
        found = _last(lambda size: day(size, 0).done, found)
    return Capacity(found * shares, or_more=False)


def _last(done: Callable[[int], bool], most: int) -> int:
    """Return a number that is done though one by `PRECISION` larger isn't, if smaller ones are done, too."""
    low, high = 0, most
    while high - low > max(1, int(PRECISION * high)):
        middle = (low + high) // 2
        low, high = (middle, high) if done(middle) else (low, middle)
    return low


def apart(candidate: Candidate, as_of: dt.date) -> bool:
    """Whether mailboxes get into each other's way nowhere, so that each does as well as if it were alone.

    Parameters
    ----------
    candidate : Candidate
        The channel.
    as_of : date
        The date whose facts apply.

    Returns
    -------
    bool
        False where there are no mailboxes to count.

    Examples
    --------
    >>> from simlib.question import from_team
    >>> day = dt.date(2026, 12, 1)
    >>> [apart(one, day) for one in from_team(5, 10, have={"office365": None, "sparkpost": None})]
    [True, False]
    """
    return candidate.unit == "mailbox" and not any(
        limit.limit is not None and limit.per in ("ip", "domain", "tenant", "recipient_domain")
        for lane in candidate.lanes(as_of)
        for limit in lane.provider.limits
    )


def _first_guess(candidate: Candidate, as_of: dt.date) -> int:
    """Return a volume that is probably too much: a bit more than the smallest daily limit, if there is one."""
    cap = candidate.cap(as_of)
    return 2_000 if cap is None else cap + 10


def _send_all(candidate: Candidate, volume: int, mailboxes: int) -> Candidate:
    """Return the candidate with so many messages at second 0, over so many mailboxes, and the deadline as its end."""
    data = {
        key: value for key, value in candidate.scenario.data.items() if key not in ("events", "faults", "transient")
    }
    names = set(candidate.own)
    team = next(tenant for tenant in data["tenants"] if tenant["name"] in names)
    send = {"kind": "batches", "size": volume}
    tenants = [tenant for tenant in data["tenants"] if tenant["name"] not in names]
    tenants.append(
        {
            **{key: value for key, value in team.items() if key != "spread"},
            "senders": mailboxes,
            "arrivals": send,
        }
    )
    channels = [
        {**channel, "tenants": [t for t in channel["tenants"] if t not in names - {team["name"]}]}
        for channel in data["alternatives"][candidate.name]["channels"]
    ]
    scenario = Scenario.build(
        data
        | {
            "duration": f"{candidate.deadline + 1:f}s",
            "tenants": tenants,
            "alternatives": {candidate.name: {"channels": [one for one in channels if one["tenants"]]}},
        },
        "size",
    )
    return Candidate(candidate.name, scenario, scenario, candidate.option)


def _tolerance_limit(runs: list[int], content: float) -> int:
    """Return a number that at least `content` of all runs exceed, with 95 % confidence, if they are normal."""
    from scipy.special import nctdtrit, ndtri

    numbers = np.asarray(runs, dtype=float)
    if np.ptp(numbers) == 0:
        return int(numbers[0])
    root = math.sqrt(len(numbers))
    factor = float(nctdtrit(len(numbers) - 1, float(ndtri(content)) * root, 0.95)) / root
    return max(0, math.floor(float(numbers.mean()) - factor * float(numbers.std(ddof=1))))
